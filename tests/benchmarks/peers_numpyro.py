"""NumPyro's NUTS with a dense metric, float64, on all cores, the model as its users write it or fused on moments.

`MCMC.run` compiles its loop anew in each call, which would hide how fast the kernel is. So two functions over the
kernel's own `init` and `sample` are compiled once, ahead of time: one starts the chains, one advances them by as many
iterations as it is told, in warm-up as in sampling, and keeps the last ones. Chains are batched by `vmap` and spread
over one XLA device a core. That compiles the sampler's body once, and takes no longer than the first `MCMC.run` of a
program.
"""

from __future__ import annotations

import os
import time

import numpy as np

from .contestants import LONGEST_RUN
from .problems import HALF_NORMAL_SCALE, Problem
from .run_result import NotRun, Prepared, Run

# Leapfrog steps a draw that NUTS takes at the least, for the estimate of whether a run fits: 3 is a tree of depth 2.
FEWEST_STEPS = 3


def imports() -> None:
    """Import NumPyro, one XLA device a core, in float64."""
    cores = len(os.sched_getaffinity(0))
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={cores}"
    # XLA's pool has one thread a core, and devices that wait for one another's parts of a product stand still for ever.
    os.environ["NPROC"] = str(4 * cores)
    import jax
    import numpyro

    jax.config.update("jax_enable_x64", True)
    jax.devices()
    _ = (numpyro.distributions, numpyro.infer)


def model_of(problem: Problem):
    """Return the NumPyro model, as its users write it."""
    import numpyro
    import numpyro.distributions as dist

    prior = dist.Normal if problem.prior == "gaussian" else dist.Laplace

    def model(features, target):
        prior_scale, noise_scale = (
            numpyro.sample(name, dist.HalfNormal(HALF_NORMAL_SCALE)) if known is None else known
            for name, known in (("prior_scale", problem.prior_scale), ("noise_scale", problem.noise_scale))
        )
        with numpyro.plate("feature", features.shape[1]):
            weights = numpyro.sample("weights", prior(0.0, prior_scale))
        intercept = numpyro.sample("intercept", dist.ImproperUniform(dist.constraints.real, (), ()))
        with numpyro.plate("row", features.shape[0]):
            numpyro.sample("target", dist.Normal(features @ weights + intercept, noise_scale), obs=target)

    return model


def fused_potential(problem: Problem, moments: dict):
    """Return minus the same log density on moments, up to a constant, of a vector (w, c, log s, log t).

    c is the intercept's deviation from target mean - feature means . w; the sum of squares is expanded round the least
    squares fit.
    """
    import jax.numpy as jnp

    d, n = problem.shape[1], problem.shape[0]
    reference, gram, rss, cross = (jnp.asarray(moments[key]) for key in ("reference", "gram", "rss", "cross"))

    def potential(point):
        step, log_scales = point[:d] - reference, list(point[d + 1 :])
        density = 0.0
        logs = []
        for known in (problem.noise_scale, problem.prior_scale):
            logs.append(log_scales.pop(0) if known is None else jnp.log(known))
            if known is None:
                density += logs[-1] - 0.5 * jnp.exp(2.0 * logs[-1]) / HALF_NORMAL_SCALE**2
        squares = rss + step @ (gram @ step - 2.0 * cross) + n * point[d] ** 2
        density += -n * logs[0] - 0.5 * squares * jnp.exp(-2.0 * logs[0])
        size = jnp.abs(point[:d]).sum() * jnp.exp(-logs[1])
        if problem.prior == "gaussian":
            size = 0.5 * (point[:d] ** 2).sum() * jnp.exp(-2.0 * logs[1])
        return -(density - d * logs[1] - size)

    return potential


def moments_of(features: np.ndarray, target: np.ndarray) -> dict:
    """Return means, the centred Gram, a least squares fit and the residuals there."""
    means, centre = features.mean(0), target.mean()
    centred, departure = features - means, target - centre
    gram, cross = centred.T @ centred, centred.T @ departure
    reference = np.linalg.lstsq(gram, cross, rcond=1e-10)[0]
    return {
        "means": means,
        "centre": centre,
        "gram": gram,
        "reference": reference,
        "rss": max(departure @ departure - 2.0 * cross @ reference + reference @ gram @ reference, 0.0),
        "cross": cross - gram @ reference,
    }


def prepare(problem: Problem, rows, settings: dict, device: str) -> Prepared:
    """Prepare the compiled functions.

    Args:
        problem: The problem.
        rows: Features and target.
        settings: ``potential`` ("as written" or "on moments"), ``chains``, ``draws``, ``tune``.
        device: Ignored; peers run on the CPU.

    Returns:
        The runs.
    """
    import jax
    import jax.numpy as jnp
    from numpyro.infer import NUTS

    features, target = (np.asarray(part) for part in rows)
    chains, draws, tune = settings["chains"], settings["draws"], settings["tune"]
    cores = len(jax.devices())
    d = problem.shape[1]
    state = {}

    def compile_all():
        state.clear()
        if settings["potential"] == "as written":
            kernel = NUTS(model_of(problem), dense_mass=True)
            arguments = (jnp.asarray(features), jnp.asarray(target))
            start = None
        else:
            state["moments"] = moments_of(features, target)
            kernel = NUTS(potential_fn=fused_potential(problem, state["moments"]), dense_mass=True)
            arguments = ()
            start = jnp.zeros(d + 1 + len(problem.learned))

        def initial(key):
            # As init_to_uniform does: within 2 of the origin of the unconstrained coordinates.
            return None if start is None else start + jax.random.uniform(key, start.shape, minval=-2.0, maxval=2.0)

        kernel.init(jax.random.PRNGKey(0), tune, initial(jax.random.PRNGKey(1)), arguments, {})
        _require_time(kernel, arguments, start, problem, settings, cores)

        def begin(key, arguments):
            place, run = jax.random.split(key)
            return kernel.init(run, tune, initial(place), arguments, {})

        def advance(chain, arguments, iterations):
            kept = jax.tree.map(
                lambda part: jnp.zeros((draws, *part.shape), part.dtype), (chain.z, chain.diverging, chain.num_steps)
            )

            def step(index, carry):
                chain, kept = carry
                chain = kernel.sample(chain, arguments, {})
                found = (chain.z, chain.diverging, chain.num_steps)
                kept = jax.tree.map(lambda buffer, value: buffer.at[index % draws].set(value), kept, found)
                return chain, kept

            return jax.lax.fori_loop(0, iterations, step, (chain, kept))

        keys = jax.random.split(jax.random.PRNGKey(0), chains).reshape(cores, chains // cores, 2)
        # The data are arguments: XLA would spend minutes on folding them as constants.
        begin_all = jax.pmap(jax.vmap(begin, in_axes=(0, None)), in_axes=(0, None))
        advance_all = jax.pmap(jax.vmap(advance, in_axes=(0, None, None)), in_axes=(0, None, None))
        started = jax.eval_shape(begin_all, keys, arguments)
        state["begin"] = begin_all.lower(keys, arguments).compile()
        state["advance"] = advance_all.lower(started, arguments, tune).compile()
        state["arguments"] = arguments

    def run(seed: int) -> Run:
        keys = jax.random.split(jax.random.PRNGKey(seed), chains).reshape(cores, chains // cores, 2)
        started = time.perf_counter()
        if "moments" in state:
            moments_of(features, target)  # the pass over the data, which every run of ours pays
        chain = state["begin"](keys, state["arguments"])
        chain = jax.block_until_ready(state["advance"](chain, state["arguments"], tune)[0])
        warmed = time.perf_counter()
        points, diverging, steps = state["advance"](chain, state["arguments"], draws)[1]
        points, diverging, steps = jax.tree.map(
            lambda part: np.asarray(part).reshape(chains, *part.shape[2:]), (points, diverging, steps)
        )
        named = _named(points, problem, state.get("moments"))
        info = {"chains": chains, "draws": draws, "steps_a_draw": float(steps.mean())}
        return Run(named, int(diverging.sum()), warmup=warmed - started, info=info)

    return Prepared(compile_all, run)


def _require_time(kernel, arguments, start, problem: Problem, settings: dict, cores: int) -> None:
    """Raise NotRun where the cost of one gradient says that a run takes too long."""
    import jax
    import jax.numpy as jnp

    potential = kernel.get_potential_fn(arguments, {})
    point = start
    if start is None:
        point = {"weights": jnp.zeros(problem.shape[1]), "intercept": jnp.zeros(())}
        point |= {name: jnp.zeros(()) for name in problem.learned}
    gradient = jax.jit(jax.grad(potential)).lower(point).compile()
    jax.block_until_ready(gradient(point))
    started = time.perf_counter()
    jax.block_until_ready(gradient(point))
    cost = time.perf_counter() - started
    iterations = settings["draws"] + settings["tune"]
    seconds = cost * iterations * FEWEST_STEPS * max(1.0, settings["chains"] / cores)
    if cost > 1e-3 and seconds > LONGEST_RUN:
        raise NotRun(
            f"a gradient takes {1e3 * cost:.0f} ms: {settings['chains']} chains of {iterations} iterations would take "
            f"at least {seconds:,.0f} s"
        )


def _named(points, problem: Problem, moments: dict | None) -> dict[str, np.ndarray]:
    """Return constrained draws: of a dictionary of unconstrained sites, or of the fused potential's vector."""
    d = problem.shape[1]
    learned = problem.learned
    if moments is None:
        return {name: np.exp(values) if name in learned else values for name, values in points.items()}
    weights = points[..., :d]
    named = {"weights": weights, "intercept": points[..., d] + moments["centre"] - weights @ moments["means"]}
    return named | {name: np.exp(points[..., d + 1 + index]) for index, name in enumerate(learned)}
