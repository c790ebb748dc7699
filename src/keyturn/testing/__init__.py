"""For tests of products that use Keyturn: a publisher, computers and a clock of your own, all in one process.

    def test_layers_need_a_license(tmp_path):
        world = World(tmp_path)
        assert world.licensed(features=["layers"]).require("layers").usable
        with pytest.raises(NotLicensed):
            world.expired(mode="enforce").require()

Everything is real (signatures, database, files); only hardware, time and the network are passed in. As pytest fixtures:
``pytest_plugins = ["keyturn.testing.fixtures"]``.
"""

from __future__ import annotations

from keyturn.testing.world import Clock, Publisher, World

__all__ = ["Clock", "Publisher", "World"]
