"""Time ``logit_betainc``, value and reverse-mode gradient, against the peers that can be imported.

The case is that of one leapfrog step: shapes of (5, 2, 1), uniform on 0.5 to 30, against logits of
(5, 1, 300), that is 3000 points. Run with ``python benchmarks/bench_betainc.py``; on a machine with
other work pin it to one core (``taskset -c 0``), for XLA splits these small loops over all cores.
"""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.special import logit_betainc, logit_betaincinv

NUM_POINTS = 3000
NUM_RUNS = 300


def measure(function: Callable[..., Any], *args: Any) -> tuple[float, float]:
    """Seconds to compile and median seconds to run, both waited for."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    compile_time = time.perf_counter() - start
    for _ in range(10):
        jax.block_until_ready(compiled(*args))
    times = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    return compile_time, statistics.median(times)


def peer_of_tfp() -> Callable[..., Any] | str:
    """Return TensorFlow Probability's function, or why it cannot be had."""
    try:
        from tensorflow_probability.substrates import jax as tfp
    except (ImportError, AttributeError) as error:  # release 0.25 reads names that jax 0.10 has removed
        return f"{type(error).__name__}: {error}"
    return tfp.math.betainc


def summed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Value and gradient, in all three arguments, of the sum of all outputs."""

    def total(*args: Any) -> jax.Array:
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(*args)))

    return jax.value_and_grad(total, (0, 1, 2))


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(1)
    a = jnp.asarray(rng.uniform(0.5, 30.0, (5, 2, 1)))
    b = jnp.asarray(rng.uniform(0.5, 30.0, (5, 2, 1)))
    z = jnp.asarray(rng.normal(0.0, 1.5, (5, 1, 300)))
    x = jax.nn.sigmoid(z)

    print(f"python {platform.python_version()}, jax {jax.__version__}, numpy {np.__version__}")
    print(f"device {jax.devices()[0]}, {platform.processor() or platform.machine()}, float64")
    cases = [
        ("logit_betainc, value (both tails)", logit_betainc, (a, b, z)),
        ("logit_betainc, value and gradient", summed(logit_betainc), (a, b, z)),
        ("logit_betaincinv, value", logit_betaincinv, (a, b, *logit_betainc(a, b, z))),
        ("jax.scipy.special.betainc, value", jax.scipy.special.betainc, (a, b, x)),
    ]
    tfp_betainc = peer_of_tfp()
    if isinstance(tfp_betainc, str):
        print(f"tensorflow_probability: left out, {tfp_betainc}")
    else:
        cases.append(("tfp betainc, value", tfp_betainc, (a, b, x)))
        cases.append(("tfp betainc, value and gradient", summed(tfp_betainc), (a, b, x)))

    ours = None
    print(f"{'':36}{'compile s':>10}{'run us':>10}{'ns/point':>10}{'ratio':>8}")
    for name, function, args in cases:
        compile_time, run_time = measure(function, *args)
        if "gradient" in name and ours is None:
            ours = run_time
        ratio = f"{run_time / ours:8.2f}" if ours else ""
        per_point = run_time / NUM_POINTS * 1e9
        print(f"{name:36}{compile_time:10.2f}{run_time * 1e6:10.1f}{per_point:10.1f}{ratio}")
    print("ratio: run time over that of our value and gradient")


if __name__ == "__main__":
    main()
