"""Code that protoc generated from `packages/bb-ir/proto`; never edited by hand."""
