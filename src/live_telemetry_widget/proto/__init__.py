"""The wire: generated from the ``.proto`` files beside this module by ``scripts/gen_proto.py``."""
