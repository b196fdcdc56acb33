"""Two classes of peers on two Nodes: a sensor sends readings, a station answers with statistics.

The program is one story. It starts at the sensor, goes on at the station, and comes back. Types are
declared where values come in and followed across the network.

    python two_classes.py
"""

import numpy as np

import bytesandbrains as bb


class Monitoring(bb.Module):
    """Finds the strangest of a sensor's readings by the statistics that a station returns."""

    peer_class = "sensor"
    stations = bb.slots.PeerSelector(of="station")
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        """Send readings, compute on the station, judge on the sensor."""
        # Any number of readings of eight channels; `invoke` refuses everything else.
        readings = g.input("readings", "tensor(float32)[?,8]")
        arrived = g.net_out("readings", self.stations.current_view(g), readings, deadline="5s")

        # From here on we are at the station. Operators are ONNX ops on the Backend slot.
        mean = self.backend.reduce_mean(g, arrived, axes=[0])
        spread = arrived - mean
        deviation = self.backend.reduce_mean(g, spread * spread, axes=[0]) ** 0.5
        mean, deviation = g.net_out("statistics", g.sender(arrived), mean, deviation)

        # And here at the sensor again, where the readings still are: they were not sent back.
        scores = (readings - mean) / deviation
        g.output("mean", mean)
        g.output("deviation", deviation)
        g.output("strangest", self.backend.op(g, "ReduceMax", scores, keepdims=0))


def main() -> None:
    """Install one target of the artifact on each of two Nodes, and let a bus connect them."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("stations", "static")
        .bind_backend("backend", "numpy")
        .compile(Monitoring().build())
    )
    here, there = bb.PeerId.from_seed(0, 0), bb.PeerId.from_seed(0, 1)
    config = {"stations": {"peers": [there]}}
    sensor = bb.install(here, [], artifact, ["Monitoring"], config)
    station = bb.install(there, [], artifact, ["Monitoring.station"])
    bus = bb.LocalBus(sensor, station)

    readings = np.random.default_rng(7).normal(20.0, 2.0, (1000, 8)).astype(np.float32)
    readings[123, 4] = 60.0  # the fault that shall be found
    sensor.invoke("Monitoring", {"readings": readings})
    for event in bus.run():
        match event.step:
            case bb.Emitted(name=name, value=value):
                print(f"{name:<10} {np.array2string(value, precision=3, separator=', ')}")
            case bb.OpFailed(error=error):
                raise error

    try:
        sensor.invoke("Monitoring", {"readings": readings[:, :7]})
    except bb.BytesAndBrainsError as error:
        print(f"\n{error.code}: {error}")


if __name__ == "__main__":
    main()
