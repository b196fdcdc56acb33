"""`bb keys` and `bb sign`."""

import json
import os
import stat
from pathlib import Path

import onnx
import pytest

from bb_ir.ids import KeyPair, PeerId
from bb_runtime import install
from bb_runtime.errors import NotTrusted


def new(bb, name: str, *more: object) -> str:
    told = bb("keys", "new", name, "--json", *more).json
    return str(told["id"])


def trusting(path: Path, *signers: str):
    return install(PeerId.from_seed(0), [], path, ["Mine.client"], trusted=signers)


# Keys


def test_new_key_is_a_key_of_the_peer_that_is_named(bb):
    done = bb("keys", "new", "a.pem")
    keypair = KeyPair.from_pem(Path("a.pem").read_bytes())
    assert done.code == 0
    assert done.out == f"wrote a.pem, the key of {keypair.peer_id}\n"
    assert bb("keys", "show", "a.pem").out == f"{keypair.peer_id}\n"
    assert bb("keys", "show", "a.pem", "--json").json == {
        "file": "a.pem", "id": str(keypair.peer_id), "public_key": keypair.public_key.hex(),
    }  # fmt: skip


def test_every_key_is_another(bb):
    assert new(bb, "a.pem") != new(bb, "b.pem")


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_only_the_owner_may_read_a_key(bb):
    new(bb, "a.pem")
    assert stat.S_IMODE(Path("a.pem").stat().st_mode) == 0o600
    assert bb("keys", "show", "a.pem").err == ""

    Path("a.pem").chmod(0o640)

    assert bb("keys", "show", "a.pem").err == "a.pem can be read by others: chmod 600 a.pem\n"
    assert bb("keys", "show", "a.pem", "--json").json["file"] == "a.pem"


def test_key_is_never_overwritten(bb):
    new(bb, "a.pem")
    before = Path("a.pem").read_bytes()
    done = bb("keys", "new", "a.pem")
    assert done.code == 3
    assert "'a.pem' is there already" in done.err
    assert Path("a.pem").read_bytes() == before


def test_key_with_a_password_needs_it(bb, tmp_path):
    (tmp_path / "password").write_text("open sesame\nand more")
    (tmp_path / "wrong").write_text("open barley")
    who = new(bb, "a.pem", "--password-file", "password")
    assert b"ENCRYPTED" in Path("a.pem").read_bytes()
    assert bb("keys", "show", "a.pem", "--password-file", "password").out == f"{who}\n"
    for given in ([], ["--password-file", "wrong"]):
        done = bb("keys", "show", "a.pem", *given)
        assert done.code == 3
        assert "error[IdError]" in done.err
        assert "--> a.pem" in done.err
        assert "fix: --password-file FILE" in done.err


def test_empty_password_is_refused(bb, tmp_path):
    (tmp_path / "password").write_text("")
    done = bb("keys", "new", "a.pem", "--password-file", "password")
    assert done.code == 2
    assert "the first line of 'password'" in done.err
    assert not Path("a.pem").exists()


def test_file_that_is_no_key_is_refused(bb, artifact):
    done = bb("keys", "show", artifact, "--json")
    assert done.code == 3
    (error,) = done.json["errors"]
    assert (error["code"], error["where"]) == ("IdError", [{"place": str(artifact)}])
    assert "bb keys new" in error["fix"]


# Signing


def test_signed_artifact_is_installed_by_who_trusts_the_signer(bb, artifact):
    who, other = new(bb, "a.pem"), new(bb, "b.pem")
    done = bb("sign", artifact, "--key", "a.pem")
    assert done.code == 0, done.err
    assert done.out == f"signed mine.onnx as {who}\n"
    assert trusting(artifact, who)
    with pytest.raises(NotTrusted, match=who):
        trusting(artifact, other)


def test_signed_artifact_is_the_artifact_still(bb, artifact):
    before = bb("explain", artifact, "--json").json
    new(bb, "a.pem")
    bb("sign", artifact, "--key", "a.pem")
    assert bb("explain", artifact, "--json").json["program"] == before["program"]
    onnx.checker.check_model(str(artifact))


def test_signature_is_added_to_those_of_others(bb, artifact):
    who = [new(bb, name) for name in ("a.pem", "b.pem")]
    bb("sign", artifact, "--key", "a.pem")
    done = bb("sign", artifact, "--key", "b.pem")
    assert done.out == f"signed mine.onnx as {who[1]}\nalso signed by {who[0]}\n"
    again = bb("sign", artifact, "--key", "b.pem", "--json").json
    assert again["signers"] == sorted(who)
    assert again["signer"] == who[1]
    assert all(trusting(artifact, one) for one in who)


def test_signature_of_an_artifact_that_was_changed_is_not_counted(bb, artifact):
    who = [new(bb, name) for name in ("a.pem", "b.pem")]
    bb("sign", artifact, "--key", "a.pem")
    model = onnx.load(str(artifact))
    model.producer_name = "another"
    onnx.save(model, str(artifact))
    done = bb("explain", artifact)
    assert f"the signature of {who[0]} does not hold" in done.out
    assert "signed by" not in done.out
    done = bb("sign", artifact, "--key", "b.pem", "--json").json
    assert (done["signers"], done["broken_signatures"]) == (who[1:], who[:1])
    assert f"the signature of {who[0]} does not hold" in bb("sign", artifact, "--key", "b.pem").out


def test_explain_tells_who_signed(bb, artifact):
    assert "signed" not in bb("explain", artifact).out
    who = sorted(new(bb, name) for name in ("a.pem", "b.pem"))
    for key in ("a.pem", "b.pem"):
        bb("sign", artifact, "--key", key)

    assert bb("explain", artifact).out.endswith(f"\nsigned by {', '.join(who)}\n")
    told = bb("explain", artifact, "--json").json
    assert (told["signers"], told["broken_signatures"]) == (who, [])


def test_signed_artifact_may_be_another_file(bb, artifact, tmp_path):
    who, before = new(bb, "a.pem"), artifact.read_bytes()
    told = bb("sign", artifact, "--key", "a.pem", "-o", tmp_path / "signed.onnx", "--json").json
    assert artifact.read_bytes() == before
    assert told["file"] == str(tmp_path / "signed.onnx")
    assert told["bytes"] == (tmp_path / "signed.onnx").stat().st_size
    assert trusting(tmp_path / "signed.onnx", who)


@pytest.mark.parametrize("out", ["signed.onnx", "elsewhere/signed.onnx"])
def test_artifact_with_data_beside_it_is_signed_with_that_data(bb, artifact, tmp_path, out):
    (tmp_path / "elsewhere").mkdir()
    model = onnx.load(str(artifact))
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.UINT8, dims=[3])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer.append(tensor)
    artifact.write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(b"abc")
    who = new(bb, "a.pem")
    assert bb("sign", artifact, "--key", "a.pem", "-o", out).code == 0
    assert trusting(Path(out), who)
    (tmp_path / "w.bin").write_bytes(b"abd")
    if out == "signed.onnx":
        with pytest.raises(NotTrusted):
            trusting(Path(out), who)
    else:
        assert trusting(Path(out), who), "it holds its data itself"


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["gone.onnx", "--key", "a.pem"], 3, "UnfitPath"),
        (["mine.onnx", "--key", "mine.onnx"], 3, "IdError"),
        (["a.pem", "--key", "a.pem"], 3, "InvalidArtifact"),
        (["mine.onnx", "--key", "gone.pem"], 3, "UnfitPath"),
        (["mine.onnx"], 2, ""),
    ],
)
def test_what_cannot_be_signed_is_told(bb, artifact, arguments, code, kind):
    new(bb, "a.pem")
    done = bb("sign", *arguments, *(["--json"] if kind else []))
    assert done.code == code
    if kind:
        assert json.loads(done.out)["errors"][0]["code"] == kind
    assert artifact.exists()
