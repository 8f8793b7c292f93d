from tests.services.host.conftest import Rack


def test_add(rack: Rack) -> None:
    host = rack.add("h1")
    assert host["status"] == "Connected", host
    assert (host["cpu"], host["version"]) == (8, "1.0")
    assert rack.events(host["uuid"]) == ["host.connected", "host.added"]
    rack.cloud.delete("hosts", host["uuid"])
    assert rack.cloud.gone("hosts", host["uuid"])
