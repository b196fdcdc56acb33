"""What `bb demo` does: a federation on handwritten digits, its baselines, its files.

The modules here compute and write; what is shown while they do is the command's business. They
import nothing heavy at their top.
"""
