"""The program that the transport suite runs; what it compiles to is in `bb_testing/echo.txt`."""

import bytesandbrains as bb


class Echo(bb.Module):
    """Sends data to a peer, which sends it back."""

    peer_class = "asking"

    def body(self, g: bb.Graph) -> None:
        to = g.peers("to", of="echoing")
        data = g.input("data", bb.tensor("uint8", (None,)))
        there = g.net_out("there", to, data)
        back = g.net_out("back", g.sender(there), there)
        done = g.gather(back, values=True, deadline="30s", wait="all", on_short="continue")
        g.output("back", done.values)
        g.output("count", done.count)
