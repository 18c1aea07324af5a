"""An exported model as a service: ONNX Runtime, HTTP and gRPC. No torch, no kfp.

The Open Inference Protocol v2 for programs, ``POST /segment`` for people, one page at ``/``.
"""
