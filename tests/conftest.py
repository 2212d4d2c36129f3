"""Settings every test shares: 64-bit arithmetic and one host device per chain."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax

jax.config.update("jax_enable_x64", True)
