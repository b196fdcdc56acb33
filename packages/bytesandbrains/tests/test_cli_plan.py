"""`bb plan` and `bb demo plans`, as a user types them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from bb_ir.params import ParameterSet
from bb_ir.plan import Plan, from_json
from bytesandbrains.cli import main

PNG = b"\x89PNG\r\n\x1a\n"


def bb(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def told(*words, code=0):
    return json.loads(bb(*words, "--json", code=code))


@pytest.fixture
def folders(tmp_path):
    """Return two versions: one tensor changed a little, one the same, one new, a file gone."""
    rng = np.random.default_rng(0)
    w = {name: rng.standard_normal((128, 128)).astype(np.float16) for name in "ab"}
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    (old / "w.safetensors").write_bytes(ParameterSet.from_tensors(w).image)
    (old / "gone.txt").write_text("gone")
    w["b"] = np.where(rng.random((128, 128)) < 0.03, w["b"] * np.float16(1.5), w["b"])
    w["c"] = rng.standard_normal(64).astype(np.float32)
    (new / "w.safetensors").write_bytes(ParameterSet.from_tensors(w).image)
    return old, new


@pytest.fixture
def store(folders, tmp_path):
    """Return a store whose current version is the old one."""
    bb("plan", "swap", "none", folders[0], "--bundle", tmp_path / "first")
    bb("plan", "apply", tmp_path / "first", "--store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def bundle(folders, tmp_path):
    bb("plan", "swap", *folders, "--bundle", tmp_path / "bundle", "--link", 50)
    return tmp_path / "bundle"


def same(a, b):
    names = sorted(file.name for file in a.iterdir())
    assert names == sorted(file.name for file in b.iterdir())
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def test_swap_from_folder_to_folder(folders, store, bundle, tmp_path):
    done = told("plan", "apply", bundle, "--store", store, "--rebuild", tmp_path / "out")

    assert done["epoch"] == 2
    assert same(folders[1], tmp_path / "out")


def test_what_changed_little_is_sent_as_a_difference(folders, tmp_path):
    facts = told("plan", "swap", *folders, "--bundle", tmp_path / "b", "--link", 50)["swap"]

    assert facts["codecs"].get("sparse", 0) + facts["codecs"].get("xorz", 0) >= 1
    assert facts["read_bytes"] < facts["moved_bytes"] / 3
    assert facts["shared"]["nbytes"] >= 128 * 128 * 2
    assert facts["deletes"]["chunks"] == 1


def test_rollback_serves_the_version_before(folders, store, bundle, tmp_path):
    first = told("plan", "rollback", store, "--dry-run")["rollback"]
    assert first["serves"] is None
    bb("plan", "apply", bundle, "--store", store)

    would = told("plan", "rollback", store, "--dry-run")["rollback"]
    did = told("plan", "rollback", store)["rollback"]

    assert would["serves"] == did["serves"] != did["left"]
    assert "no version is kept" in bb("plan", "rollback", store, code=1)


def test_no_commit_stages_only(folders, store, bundle):
    staged = told("plan", "apply", bundle, "--store", store, "--no-commit")
    assert (staged["root"], staged["epoch"]) == (None, 0)
    assert told("plan", "rollback", store, "--dry-run")["rollback"]["epoch"] in {0, 1}


def test_dry_run_changes_nothing(store, bundle, folders, tmp_path):
    before = sorted(str(file) for file in store.rglob("*"))

    assert "nothing was changed" in bb("plan", "apply", bundle, "--store", store, "--dry-run")
    assert sorted(str(file) for file in store.rglob("*")) == before
    bb("plan", "swap", *folders, "--dry-run")
    bb("plan", "manifest", folders[0], "--dry-run")
    assert not (folders[0] / "bb-manifest.json").exists()
    bb("plan", "apply", bundle, "--store", tmp_path / "none", "--dry-run", code=3)
    bb("plan", "apply", tmp_path / "first", "--store", tmp_path / "none", "--dry-run")
    assert not (tmp_path / "none").exists()


def test_flipped_byte_commits_nothing(store, bundle):
    spans = bytearray((bundle / "spans.bin").read_bytes())
    spans[len(spans) // 2] ^= 1
    (bundle / "spans.bin").write_bytes(spans)

    error = told("plan", "apply", bundle, "--store", store, code=1)["errors"][0]

    assert error["code"] == "PlanFailed"
    assert told("plan", "rollback", store, "--dry-run")["rollback"]["serves"] is None


def test_bundle_for_another_version_commits_nothing(bundle, tmp_path, folders):
    error = told("plan", "apply", bundle, "--store", tmp_path / "empty", code=3)["errors"][0]

    assert error["code"] == "InvalidPlan"
    assert "are not here" in error["found"]
    assert not (tmp_path / "empty").exists()


def test_failed_plan_goes_on_from_its_report(store, bundle, tmp_path):
    spans = (bundle / "spans.bin").read_bytes()
    last = from_json(Plan, (bundle / "plan.json").read_text()).swap.ops[-1].src_offset
    damaged = bytearray(spans)
    damaged[last] ^= 1
    (bundle / "spans.bin").write_bytes(damaged)
    report = tmp_path / "report.json"
    bb("plan", "apply", bundle, "--store", store, "--report", report, code=1)
    assert '"done"' in report.read_text()
    (bundle / "spans.bin").write_bytes(spans)

    done = told("plan", "apply", bundle, "--store", store, "--resume", report)

    assert done["epoch"] == 2


def test_manifest_is_what_swap_reads(folders, tmp_path):
    for folder in folders:
        facts = told("plan", "manifest", folder, "--version", folder.name)["manifest"]
        assert facts["root"].startswith("sha256:")
    assert facts["tensors"] == 3

    bb("plan", "swap", *folders, "--out", tmp_path / "a.json")
    bb("plan", "swap", *(f / "bb-manifest.json" for f in folders), "--out", tmp_path / "b.json")

    a, b = (from_json(Plan, (tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a.swap.adds == b.swap.adds
    assert "needs the folder" in bb(
        "plan", "swap", "none", folders[1] / "bb-manifest.json", "--bundle", tmp_path / "x", code=2
    )


def test_plan_in_place_reads_the_new_files(folders, store, tmp_path):
    bb("plan", "swap", *folders, "--out", tmp_path / "plan.pb")

    error = told("plan", "apply", tmp_path / "plan.pb", "--store", store, code=3)["errors"][0]
    assert error["code"] == "PlanLacks"
    assert "--files FOLDER" in error["fix"]
    bb("plan", "apply", tmp_path / "plan.pb", "--store", store, "--files", folders[1])


def test_buckets_in_memory(folders, tmp_path):
    out = tmp_path / "plan.json"
    bb("plan", "swap", *folders, "--out", out, "--into", "device", "--bucket", 0.03)

    done = told("plan", "apply", out, "--files", folders[1])
    assert done["root"] is None
    assert done["nbytes"] > 0
    facts = told("plan", "swap", *folders, "--dry-run", "--into", "mem", "--bucket", 0.03)["swap"]
    assert facts["lanes"] > 1


def test_earlier_format(folders, tmp_path):
    out = tmp_path / "earlier.json"
    assert "add --into device" in bb("plan", "swap", *folders, "--out", out, "--earlier", code=2)
    bb("plan", "swap", *folders, "--out", out, "--earlier", "--into", "device")

    written = json.loads(out.read_text())
    assert list(written) == ["plan_id", "manifest_from", "manifest_to", "ops", "window"]
    facts = told("plan", "show", out)["plan"]
    assert (facts["kind"], facts["seconds"]) == ("swap", None)  # it has no digests of what arrives
    assert "not sound" in bb("plan", "show", out)
    error = told("plan", "show", out, "--plot", tmp_path / "p.png", code=3)["errors"][0]
    assert error["code"] == "InvalidPlan"


def test_verify_lists_everything(bundle, tmp_path):
    assert bb("plan", "verify", bundle).strip() == "sound"
    told_plan = json.loads((bundle / "plan.json").read_text())
    for op in told_plan["swap"]["ops"]:
        op["srcOffset"] = "1000000000"
    (tmp_path / "bad.json").write_text(json.dumps(told_plan))

    found = told("plan", "verify", tmp_path / "bad.json", code=3)
    assert not found["sound"]
    assert "envelope" in {one["rule"] for one in found["problems"]}
    assert "not sound" in bb("plan", "verify", tmp_path / "bad.json", code=3)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_picture(bundle, store, tmp_path, kind):
    for words in (("show", bundle), ("apply", bundle, "--store", store)):
        bb("plan", *words, "--plot", tmp_path / f"p.{kind}")
        drawn = (tmp_path / f"p.{kind}").read_bytes()
        assert drawn.startswith(PNG) if kind == "png" else b"<svg" in drawn
        assert len(drawn) > 5000
    assert "neither .png nor .svg" in bb("plan", "show", bundle, "--plot", "p.gif", code=2)


def test_show_lists_ops(bundle):
    text = bb("plan", "show", bundle, "--ops", 1)

    assert "cas://blake3:" in text
    assert "more; --ops lists more" in text


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"ops": 5}', "\x00\xff", '{"schemaVersion": 9}']
)
def test_what_is_no_plan_is_refused(tmp_path, content):
    file = tmp_path / "plan.json"
    file.write_text(content, encoding="latin-1")

    error = told("plan", "verify", file, code=3)

    assert error.get("errors", [{"code": ""}])[0]["code"] in {"BadPlanFile", "InvalidPlan", ""}
    assert "errors" in error or not error["sound"]


@pytest.mark.parametrize("words", [("verify", "none.json"), ("apply", "none"), ("show", "none")])
def test_missing_files_are_named(words):
    assert "none" in bb("plan", *words, code=3)


def test_swap_says_where_to_write(folders):
    assert "--out FILE or --bundle FOLDER" in bb("plan", "swap", *folders, code=2)


# --- caches


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    from bytesandbrains.plans import trace_source

    file = tmp_path_factory.mktemp("trace") / "trace.parquet"
    trace_source("trace").draw_trace(file, requests=300, seed=2)
    return file


def cached(trace, out, *more):
    sets = ("window_ms=20000", "layers=2", "page_bytes=4096", "slo_ms=60000")
    words = [word for one in sets for word in ("--trace-set", one)]
    return told("plan", "cache", trace, "--out", out, *words, "--set", "min_io_bytes=0", *more)


def test_cache_plan_of_a_trace(trace, tmp_path):
    facts = cached(trace, tmp_path / "a.json", "--tables", tmp_path / "tables")["cache"]
    assert facts["ops"] > 5
    again = cached(tmp_path / "tables", tmp_path / "b.json")["cache"]

    assert again["plan_id"] == facts["plan_id"]
    assert (tmp_path / "tables" / "reduction.json").exists()
    assert "sound" in bb("plan", "verify", tmp_path / "a.json")


def test_cache_plan_is_carried_out_between_files(trace, tmp_path):
    cached(trace, tmp_path / "plan.json")
    plan = from_json(Plan, (tmp_path / "plan.json").read_text()).cache
    tiers = tmp_path / "tiers"
    for op in plan.ops:
        file = tiers / op.src.removeprefix("tier://")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if file.exists() else "w+b") as opened:
            opened.seek(op.src_offset)
            opened.write(np.random.default_rng(op.src_offset).bytes(op.length))

    done = told("plan", "apply", tmp_path / "plan.json", "--tiers", tiers)

    assert done["nbytes"] == sum(op.length for op in plan.ops)
    for op in plan.ops:
        sent, got = (
            (tiers / place.removeprefix("tier://")).read_bytes()[at : at + op.length]
            for place, at in ((op.src, op.src_offset), (op.dst, op.dst_offset))
        )
        equal = sent == got
        assert equal


def test_cache_plan_needs_a_trace(tmp_path):
    error = told("plan", "cache", tmp_path / "none", "--dry-run", code=3)["errors"][0]
    assert error["code"] == "BadPlanFile"
    assert "--out FILE" in bb("plan", "cache", "x", code=2)


def test_settings_are_checked(trace):
    for words in (("--set", "min_io=0"), ("--trace-set", "layer=1")):
        error = told("plan", "cache", trace, "--dry-run", *words, code=3)["errors"][0]
        assert error["code"] in {"ConfigError", "UnknownField"} or "Config" in error["code"]


# --- the demo


def test_demo_of_plans(tmp_path):
    out = tmp_path / "out"
    figures = told("demo", "plans", "--out", out, "--megabytes", 1, "--requests", 300)

    for name in ("swap_plan", "cache_plan"):
        assert from_json(Plan, (out / f"{name}.json").read_text()).plan_id.startswith("sha256:")
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    assert figures["swap"]["sent_bytes"] < figures["swap"]["new_bytes"]
    assert (
        figures["cache"]["met"] + sum(figures["cache"]["rejected"].values())
        == (figures["cache"]["asked"])
    )
    text = bb("demo", "plans", "--out", out, "--megabytes", 1, "--requests", 300, "--quiet")
    assert "every digest right" in text
    assert "plans.json" in text
