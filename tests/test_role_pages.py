"""The example on the page of each role passes the conformance suite of its role."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/reference/roles"
FILE = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
HEAD = "import numpy as np\nimport bb_testing\nfrom bb_testing import environment, peer_id\n"

#: By page: what its example is put through.
SUITES = {
    "aggregator": """
from bb_testing.collecting import CollectingAggregatorSuite
from clipped import ClippedConfig, ClippedMean

class TestClippedMean(CollectingAggregatorSuite):
    def build(self, **config):
        return ClippedMean(ClippedConfig(**config), environment("aggregator"))
""",
    "backend": """
from two_ops import TwoOps

class TestTwoOps(bb_testing.BackendSuite):
    def make(self):
        return TwoOps(TwoOps.Config(), environment("backend"))
""",
    "codec": """
from bb_roles import ParameterSet
from cut import Cut

class TestCut(bb_testing.CodecSuite):
    def make(self):
        return Cut(Cut.Config(), environment("codec"))

    def sample(self, rng):
        tensors = {"w": rng.standard_normal((12, 20)), "b": rng.standard_normal(20)}
        return ParameterSet.from_tensors({n: t.astype(np.float32) for n, t in tensors.items()})
""",
    "data-source": """
from circles import Circles, CirclesConfig

class TestCircles(bb_testing.DataSourceSuite):
    def make(self):
        return Circles(CirclesConfig(points=30, batch_size=8), environment("data"))
""",
    "index": """
from plain import Plain

class TestPlain(bb_testing.IndexSuite):
    dim = 6

    def make(self):
        return Plain(Plain.Config(), environment("index"))
""",
    "model": """
from level import Level, LevelConfig

class TestLevel(bb_testing.ModelSuite):
    def make(self):
        return Level(LevelConfig(), environment("model"))

    def batch(self):
        x = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
        return x, np.arange(12, dtype=np.float32)
""",
    "peer-selector": """
from ring import Ring, RingConfig

class TestRing(bb_testing.PeerSelectorSuite):
    def make(self):
        return Ring(RingConfig(tuple(map(peer_id, range(5)))), environment("peers"))
""",
    "protocol": """
from heartbeat import Heartbeat, HeartbeatConfig

class TestHeartbeat(bb_testing.ProtocolSuite):
    def make(self):
        return Heartbeat(HeartbeatConfig(), environment("heartbeat"))

    def story(self, story):
        story("Alive")
        for index in (1, 2, 1):
            story("Beat", sender=peer_id(index))
        story("Alive")
""",
}


def test_every_role_has_a_page_and_is_tried():
    from bb_ir import keys

    assert sorted(SUITES) == sorted(page.stem for page in PAGES.glob("*.md"))
    assert sorted(SUITES) == sorted(role.replace("_", "-") for role in keys.ROLES)


@pytest.mark.slow
@pytest.mark.parametrize("page", SUITES)
def test_example_of_a_page_passes_the_suite_of_its_role(page, tmp_path):
    files = FILE.findall((PAGES / f"{page}.md").read_text())
    for name, text in files:
        (tmp_path / name).write_text(text)
    (tmp_path / "test_it.py").write_text(HEAD + SUITES[page])

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert files
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
