"""The command line.

What `bb` says beside the errors above, which it prints in the same form. With `--json` it prints
them as data: `{"errors": [{"code", "found", "expected", "fix", "where"}]}`. The exit codes stand on
the page on [the command line](cli.md).
"""

# %% AlreadyCompiled: --bind
import bytesandbrains as bb


class Reads(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))


artifact = bb.Compiler().bind_model("model", "mlp").compile(Reads().build())

# $ bb compile program.py:artifact --bind model=mlp


# %% BadConfigFile: 'settings.yaml'
import bytesandbrains as bb


class Reads(bb.Module):
    bindings = {"model": "mlp"}
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))


# $ bb run program.py:Reads --config settings.yaml


# %% BadInput: x=three
import bytesandbrains as bb


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "tensor(int64)"))


# $ bb run program.py:Echo --input x=three


# %% CannotWrite: 'models/echo.onnx'
import bytesandbrains as bb


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "int64"))


# $ bb compile program.py:Echo -o models/echo.onnx


# %% DemoPartsMissing: plugin
# $ BB_PLUGINS=model.mlp bb demo --no-plot


# %% NoCheckpoint: 'results/checkpoint.bbsim'
import bytesandbrains as bb


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "int64"))


# file: scenario.toml
# program = "program.py:Echo"
# inputs = { x = 3 }

# $ bb sim scenario.toml --out results --resume


# %% NoReadyProgram: 'fedagv'
# $ bb sim fedagv --aggregator krum


# %% NotOfSlot: trim=2
# $ bb sim fedavg --aggregator trimmed-mean --set trim=2


# %% NoProgram: names no program
# file: scenario.toml
# rounds = 3
# peers = { client = 100 }

# $ bb sim scenario.toml


# %% NoRoundDone: 2 failed
# $ bb sim fedavg --rounds 2 --peers 8 --attack scale --attack-scale 1e9


# %% NoSuchFile: 'progam.py'
# $ bb compile progam.py:Trains


# %% NoSuchName: 'Eco'
import bytesandbrains as bb


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "int64"))


# $ bb compile program.py:Eco


# %% NoSuchRole: 'modle'
# $ bb plugins modle


# %% NotAProgram: 'rounds'; int
rounds = 20

# $ bb compile program.py:rounds


# %% OpFailure: Loop failed on Trains
import bytesandbrains as bb


class Trains(bb.Module):
    bindings = {"model": "mlp", "data": "digits"}
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        with g.loop(g.input("times")):  # (1)
            self.model.fit(g, self.data.batches(g))


# $ bb run program.py:Trains --input "times='thrice'"


# %% ProgramRaised: ZeroDivisionError
import bytesandbrains as bb


class Echo(bb.Module):
    def body(self, g):
        g.output("share", g.constant(1 / 0))  # (1)


# $ bb compile program.py:Echo


# %% UnfitPath: there is no file 'alice.pem'
# $ bb keys show alice.pem


# %% WrongArguments: epoch
import bytesandbrains as bb


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, epochs=1):
        super().__init__()
        self.epochs = epochs

    def body(self, g):
        self.model.fit(g, self.data.batches(g, epochs=self.epochs))


# $ bb compile program.py:Trains --arg epoch=3


# %% WrongUsage: Missing argument
# $ bb sim
