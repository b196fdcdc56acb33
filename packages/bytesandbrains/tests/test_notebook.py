"""What notebooks show of explanations, compiled models and loaded artifacts."""

from onnx import ModelProto

import bytesandbrains as bb
from bytesandbrains import notebook


class Hello(bb.Module):
    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")

    def body(self, g):
        got = g.net_out("hello", self.clients.sample(g, 3))
        g.gather(g.net_out("<back>", g.sender(got)))


class Formatter(dict):
    def for_type(self, kind, show):
        self[kind] = show


class Shell:
    def __init__(self):
        self.display_formatter = self
        self.formatters = {"text/html": Formatter()}


def compiled():
    return bb.Compiler().bind_peer_selector("clients", "static").compile(Hello().build())


def test_explanation_of_an_artifact_draws_itself():
    told = bb.explain(compiled(), cohort={"client": 5})

    assert told.round.envelopes == 10
    assert "<svg" in told._repr_html_()


def test_extension_draws_compiled_models_and_leaves_others_alone():
    shell = Shell()
    notebook.load_ipython_extension(shell)
    show = shell.formatters["text/html"][ModelProto]

    assert show(compiled()) == bb.explain(compiled())._repr_html_()
    assert show(Hello().build()) is None
    assert show(ModelProto()) is None

    notebook.unload_ipython_extension(shell)
    assert shell.formatters["text/html"] == {}


def test_loaded_artifact_shows_tables_and_escapes_names():
    shown = bb.load_artifact(compiled())._repr_html_()

    for told in ("Hello.client", "static", "server → client", "trigger", "1m", "&lt;back&gt;"):
        assert told in shown
    assert "<back>" not in shown
