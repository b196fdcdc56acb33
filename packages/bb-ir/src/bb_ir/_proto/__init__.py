"""Schemas, what reads them in C++, and the code that protoc made of them, never edited by hand."""
