"""Data of bytesandbrains: ids, addresses, types, parameter sets, keys and protobufs.

Import the module that holds what you need (`bb_ir.types`, `bb_ir.params`, ...). This package does
no I/O, and importing it imports neither numpy nor onnx.
"""
