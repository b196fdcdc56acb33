"""`bb sim NAME`: ready-made programs, parts swapped by name, attackers."""

import json

import pytest

QUICK = ("--rounds", 2, "--peers", 6, "--json")


def accuracy(told):
    return told["rounds"][-1]["outputs"]["test"]["accuracy"]


def test_line_of_the_readme_works_and_draws(bb, tmp_path):
    line = "fedavg --aggregator krum --attack sign-flip --attackers 0.2 --plot out.png --rounds 3"

    done = bb("sim", *line.split())

    assert done.code == 0
    assert done.out.startswith("FederatedAveraging: 1 server, 20 client; seed 0\nattack by sign-")
    assert done.out.endswith("wrote out.png\n")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_defaults_learn(bb):
    told = bb("sim", "fedavg", "--rounds", 6, "--json").json

    assert told["peers"] == {"server": 1, "client": 20}
    assert told["attackers"] == []
    assert accuracy(told) > 0.85


def test_gossip_is_ready_too_and_can_be_attacked(bb):
    told = bb("sim", "gossip", "--rounds", 8, "--peers", 8, "--json").json
    attacked = bb("sim", "gossip", "--rounds", 8, "--peers", 8, "--attack", "sign-flip", "--json")

    losses = [one["outputs"]["test"]["mean"]["loss"] for one in told["rounds"]]
    spoiled = [one["outputs"]["test"]["mean"]["loss"] for one in attacked.json["rounds"]]
    assert losses[-1] < 0.7 * losses[0]
    assert spoiled[-1] > losses[-1]
    assert len(attacked.json["attackers"]) == 2


@pytest.mark.parametrize("name", ["fedavg", "fedopt", "median", "trimmed-mean", "krum"])
def test_every_aggregator_is_picked_by_name(bb, name):
    told = bb("sim", "fedavg", "--aggregator", name, *QUICK).json

    assert [one["ended"] for one in told["rounds"]] == [{"done": 1}] * 2


@pytest.mark.parametrize(
    "options",
    [
        ("--bind", "model=sklearn"),
        ("--bind", "data_source=digits"),
        ("--bind", "peers=random"),
        ("--bind", "peer_selector=static"),
        ("--bind", "codec=quantize"),
        ("--bind", "codec=quantize", "--set", "codec.to=int4"),
        ("--arg", "cohort=4", "--arg", "epochs=1"),
        ("--set", "data.partition=dirichlet", "--set", "data.alpha=1.0"),
        ("--set", "client.data.batch_size=8", "--set", "model.layers=[64, 16, 10]"),
    ],
)
def test_any_part_is_swapped_and_configured_by_name(bb, options):
    plain = bb("sim", "fedavg", *QUICK).json
    told = bb("sim", "fedavg", *options, *QUICK).json

    assert [one["ended"] for one in told["rounds"]] == [{"done": 1}] * 2
    # Where everybody is asked, it does not matter who chooses.
    same = options[1] in ("data_source=digits", "peer_selector=static", "peers=random")
    assert (told["digest"] == plain["digest"]) is same


def test_codec_makes_updates_small(bb):
    plain = bb("sim", "fedavg", *QUICK).json["rounds"][0]["sent_bytes"]
    small = bb("sim", "fedavg", "--bind", "codec=quantize", *QUICK).json["rounds"][0]["sent_bytes"]

    assert small["update"] < 0.4 * plain["update"]


def test_attack_is_the_same_through_a_codec_and_by_bytes(bb):
    attacked = ("--attack", "same-value", "--attackers", 6, "--attack-scale", 0.5)
    told = bb("sim", "fedavg", "--bind", "codec=quantize", *attacked, *QUICK).json

    assert len(told["attackers"]) == 6
    assert accuracy(told) < 0.3


def test_file_of_configuration_and_option_over_it(bb, tmp_path):
    (tmp_path / "mine.toml").write_text("[model]\nlr = 1e-12\n[client.data]\nbatch_size = 4\n")

    still = bb("sim", "fedavg", "--config", "mine.toml", *QUICK).json
    moved = bb("sim", "fedavg", "--config", "mine.toml", "--set", "model.lr=0.1", *QUICK).json
    whole = bb("sim", "fedavg", "--config", "mine.toml", "--set", "data.batch_size=16", "--set",
               "model.lr=0.1", *QUICK).json  # fmt: skip

    losses = [one["outputs"]["test"]["loss"] for one in still["rounds"]]
    assert losses[0] == pytest.approx(losses[1])
    assert moved["digest"] not in (still["digest"], whole["digest"])
    assert whole["digest"] == bb("sim", "fedavg", *QUICK).json["digest"]


@pytest.mark.parametrize(
    ("many", "count"), [("0.5", 3), ("0.01", 1), ("0", 0), ("2", 2), ("1.0", 1)]
)
def test_attackers_are_a_share_or_a_number(bb, many, count):
    told = bb("sim", "fedavg", "--attack", "scale", "--attackers", many, *QUICK).json

    assert len(told["attackers"]) == count


def test_robust_rules_are_told_how_many_attackers_there_are(bb):
    options = ("--aggregator", "krum", "--attack", "sign-flip")
    told = bb("sim", "fedavg", *options, "--attackers", 1, *QUICK).json
    same = bb("sim", "fedavg", *options, "--attackers", 1, "--set", "aggregator.attackers=1",
              *QUICK).json  # fmt: skip
    more = bb("sim", "fedavg", *options, "--attackers", 2, *QUICK)

    assert told["digest"] == same["digest"]
    assert more.code == 3
    assert "attackers is 2" in more.out
    assert "from 0 to 1" in more.out
    assert "2 of 6 peers attack: lower --attackers" in more.out


def test_rule_that_was_told_itself_how_many_attackers_there_are_is_blamed_itself(bb):
    options = ("--aggregator", "trimmed-mean", "--set", "aggregator.trim=3")
    done = bb("sim", "fedavg", *options, "--attack", "scale", *QUICK)

    assert done.code == 3
    assert "lower trim, or raise cohort" in done.out
    assert "--attackers" not in done.out


def test_peers_of_gossip_answer_no_more_than_they_are_asked(bb):
    told = bb("sim", "gossip", "--rounds", 4, "--peers", 6, "--json").json

    assert [(one["asked"], one["answered"]) for one in told["rounds"]] == [(6, 6)] * 4
    assert told["program"] == "GossipLearning"
    assert told["components"]["model"] == "mlp"


def test_attack_and_parts_lie_over_a_scenario_of_ones_own(bb, tmp_path):
    (tmp_path / "world.toml").write_text(
        bb("sim", "--example").out.replace("# [attack] ", "[attack]").replace(
            '# kind = "sign-flip"', 'kind = "sign-flip"')
    )  # fmt: skip
    options = ("--rounds", 1, "--peers", 30, "--seed", 1, "--json")

    given = bb("sim", "world.toml", "--set", "data.batch_size=64", *options)
    assert given.code == 3  # liars 40 to 42 are among 100 clients only
    told = bb("sim", "world.toml", "--attackers", 3, *options[:2], *options[4:]).json

    assert told["attack"] == "sign-flip"
    assert len(told["attackers"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["fedagv"], 3, "did you mean 'fedavg'"),
        (["nothing"], 3, "federated averaging on handwritten digits"),
        (["none.toml"], 3, "cannot be read"),
        (["fedavg", "--aggregator", "kurm"], 3, "did you mean 'krum'"),
        (["fedavg", "--attack", "sing-flip"], 3, "did you mean 'sign-flip'"),
        (["fedavg", "--attackers", "0.2"], 3, "--attack KIND"),
        (["fedavg", "--attack", "scale", "--attackers", "many"], 2, "a share below 1"),
        (["fedavg", "--attack", "scale", "--attackers", "1.5"], 2, "a share below 1"),
        (["fedavg", "--attack", "scale", "--attackers", "21"], 3, "21 attackers"),
        (["fedavg", "--set", "trim=2"], 3, "SLOT.FIELD=VALUE"),
        (["fedavg", "--set", "aggregator.trimm=2"], 3, "trimm"),
        (["fedavg", "--bind", "nothing=mlp"], 3, "no slot 'nothing'"),
        (["fedavg", "--bind", "codek=quantize"], 3, "did you mean 'codec'"),
        (["fedavg", "--bind", "data_surce=digits"], 3, "did you mean 'data_source'"),
        (["fedavg", "--bind", "modle=mlp"], 3, "did you mean 'model'"),
        (["fedavg", "--peers", "5000"], 3, "--peers 1438, or fewer"),
        (["gossip", "--peers", "2000"], 3, "at most 1438 peers"),
        (["fedavg", "--peers", "1000", "--set", "data.partition=shard"], 3, "--peers 719"),
        (["fedavg", "--aggregator", "krum", "--peers", "2"], 3, "raise --peers or --arg cohort"),
        (["fedavg", "--plot", "out.pdf"], 2, ".png"),
        (["fedavg", "--plot", "nowhere/out.png"], 2, "there is no folder"),
        (["fedavg", "--peers", "none"], 2, "a number of peers"),
    ],
)
def test_mistakes_are_told(bb, arguments, code, told):
    done = bb("sim", *arguments)

    assert done.code == code
    assert told in done.err


def test_peers_without_a_class_need_a_scenario_with_one(bb, tmp_path):
    (tmp_path / "world.toml").write_text('program = "none.py:None"\n')

    assert "CLASS=N" in bb("sim", "world.toml", "--peers", 3).err


def test_who_sent_what_was_refused_is_told(bb, tmp_path):
    line = "fedavg --attack scale --attack-scale 1e9 --attackers 2 --rounds 2 --peers 8 --out kept"

    done = bb("sim", *line.split(), "--arg", "quorum=0.5")

    told = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    assert told["rounds"][0]["failures"] == {"UpdateOutOfRange": 2}
    assert [(one["answered"], one["rejected"]) for one in told["rounds"]] == [(6, 2)] * 2
    assert "6/8       2 " in done.out
    assert sorted(told["rounds"][0]["failed_on"]) == sorted(told["attackers"])
    assert f"failed on what came from {told['attackers'][0]} (2)" in done.out


def test_run_goes_on_from_its_checkpoint(bb, tmp_path):
    options = ("--attack", "gaussian", "--peers", 6, "--out", "kept")
    bb("sim", "fedavg", *options, "--rounds", 2)

    told = bb("sim", "fedavg", *options, "--rounds", 3, "--resume", "--json").json

    whole = bb("sim", "fedavg", "--attack", "gaussian", "--peers", 6, "--rounds", 3, "--json").json

    def outputs(told):
        return [one["outputs"] for one in told["rounds"]]

    assert outputs(told) == outputs(whole)
    assert told["attackers"] == whole["attackers"]
