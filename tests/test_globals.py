"""Importing and running the package changes nothing global: each action in turn, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# What libraries do to the process when they are loaded is theirs: loaded first, they are part of the "before".
PRELOAD = """
import sys; sys.path.insert(0, {tests!r})
import h5netcdf, matplotlib.pyplot, numpy, pandas, pyro, pyro.infer.autoguide, pyro.infer.mcmc, rich.console
import scipy.stats, sklearn.datasets, sklearn.linear_model, torch, typer
import torch._dynamo  # as constructing an optimizer does
from arviz_stats.base import array_stats
try:
    import arviz.preview
except ModuleNotFoundError:
    import arviz
"""

ACTIONS = {
    "import": "import bayesreg as br",
    "public names": "[getattr(br, name) for name in br.__all__]",
    "data": """
import pyro.distributions as dist
data = br.load_diabetes().standardized()
br.simulate_weight_decay(seed=0)
moments = br.Moments.from_data(data)
model = br.LinearRegression(br.LaplacePrior(0.25), dist.HalfNormal(1.0))
gaussian = br.LinearRegression(br.GaussianPrior(0.25), 0.7)
""",
    "target": "model.target(data)",
    "map": "br.map_estimate(gaussian, data); br.map_estimate(model, data)",
    "exact": "exact = br.sample(gaussian, data, method='exact', draws=50, chains=2)",
    "pyro-nuts": "nuts = br.sample(model, moments, method='pyro-nuts', draws=8, tune=8, chains=2)",
    "pyro-nuts on the program": """
br.sample(model, data, method='pyro-nuts', draws=3, tune=3, chains=1, pyro_program=True, max_tree_depth=3)
""",
    "svi": "br.sample(model, data, method='svi', draws=20, max_steps=200)",
    "a failing run": """
try:
    br.sample(model, data, method='svi', rank=-1)
except ValueError:
    pass
""",
    "summary": "exact.summary()",
    "predict": "exact.predict(data.features[:3])",
    "datatree": "exact.to_datatree()",
    "train": "br.train(data, br.L2(0.1), epochs=3); br.train(data, br.L1(0.1), epochs=3)",
    "certify": "br.certify(br.map_estimate(gaussian, data).weights, data, br.L2(0.1))",
    "conventions": "br.penalty_for(br.GaussianPrior(0.5), noise_scale=1.0, num_rows=442)",
    "compare": "br.compare(gaussian, data)",
}

RUN = """
import json
from global_state import differences, snapshot
found = {{}}
names = {{}}
torch.manual_seed(11); numpy.random.seed(12); import random; random.seed(13)
pyro.param("mine", torch.zeros(1))
for title, code in {actions!r}.items():
    before = snapshot()
    exec(code, names)
    found[title] = {{name: repr(values)[:500] for name, values in differences(before, snapshot()).items()}}
print(json.dumps(found))
"""


def run_python(code):
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def differences_after(actions):
    return run_python(PRELOAD.format(tests=str(TESTS)) + RUN.format(actions=actions))


# Each of these is what a careless module would do.
CARELESS = {
    "default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "torch random": "import torch; torch.manual_seed(0)",
    "numpy random": "import numpy; numpy.random.seed(0)",
    "python random": "import random; random.seed(0)",
    "pyro parameters": "import pyro; pyro.clear_param_store()",
    "pyro settings": "import pyro; pyro.enable_validation(False)",
    "matplotlib": "import matplotlib; matplotlib.rcParams['font.size'] = 3",
    "warnings filters": "import warnings; warnings.simplefilter('error')",
    "logging": "import logging; logging.getLogger('pyro').setLevel(50)",
    "torch threads": "import torch; torch.set_num_threads(1)",
    "environment": "import os; os.environ['SOMETHING'] = '1'",
}


@pytest.fixture(scope="module")
def found():
    """What each action changes, the careless ones last; all in one process, since it takes long to load."""
    return differences_after(ACTIONS | CARELESS)


@pytest.mark.parametrize("title", ACTIONS)
def test_nothing_global_changes(found, title):
    assert found[title] == {}


@pytest.mark.parametrize("name", CARELESS)
def test_a_change_is_seen(found, name):
    assert list(found[name]) == [name]


def test_importing_the_package_loads_nothing_heavy():
    heavy = run_python("""
import json, sys
import bayesreg
heavy = {"torch", "pyro", "numpy", "pandas", "scipy", "sklearn", "arviz", "matplotlib", "rich", "typer"}
print(json.dumps(sorted(heavy & set(sys.modules))))
""")
    assert heavy == []
