from mgmtnode.contracts import simulator as contract
from mgmtnode.contracts.hypervisor import HypervisorDriver
from mgmtnode.extension.point import Extension
from mgmtnode.service import ServiceManifest
from services.simulator.config import CONFIG
from services.simulator.properties import PROPERTIES
from services.simulator.service import SimulatorService

manifest = ServiceManifest(
    id="simulator",
    summary="Hosts that exist only in one process and one file, to try things out without hardware",
    service=SimulatorService,
    contract=(contract,),
    extensions=(Extension(HypervisorDriver, lambda service: service.driver, key=contract.HYPERVISOR),),
    config=CONFIG,
    properties=PROPERTIES,
    plugin=True,
    requires=("host",),
)
