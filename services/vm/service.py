"""Virtual machines: what may be asked of them, and which flow does it."""

from __future__ import annotations

from mgmtnode.bus.message import Nothing
from mgmtnode.contracts.allocator import FindHosts
from mgmtnode.contracts.host import HOST
from mgmtnode.contracts.nic import ListNics
from mgmtnode.contracts.offering import INSTANCE_OFFERING, InstanceOffering
from mgmtnode.contracts.vm import (
    VM,
    AttachNic,
    CandidateHost,
    CandidateHosts,
    ChangeVmOffering,
    CreateVm,
    DestroyVm,
    DetachNic,
    ExpungeVm,
    GetMigrationCandidates,
    MigrateVm,
    PauseVm,
    RebootVm,
    RecoverVm,
    ResumeVm,
    StartVm,
    StopVm,
    UpdateVm,
    Vm,
    VmState,
)
from mgmtnode.contracts.vm_events import VM_NO_SIZE, VM_OFFERING_DISABLED, VmChanged
from mgmtnode.contracts.vm_sync import DestroyStranger, MoveOff, ObserveVm
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import DENIED
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, handler, job, validate
from services.vm import sync
from services.vm.config import EXPUNGE_INTERVAL
from services.vm.expunge import Expunger
from services.vm.flows.change import ATTACH_NIC, CHANGE_OFFERING, DETACH_NIC, AttachContext, ResizeContext
from services.vm.flows.create import CREATE_VM, CreateContext, forget
from services.vm.flows.destroy import DESTROY_VM, DestroyContext
from services.vm.flows.host_command import VmContext
from services.vm.flows.migrate import MIGRATE_VM, MOVE_OFF, MigrateContext, request
from services.vm.flows.power import (
    PAUSE_VM,
    REBOOT_VM,
    RESUME_VM,
    START_VM,
    STOP_VM,
    StartContext,
    StopContext,
)
from services.vm.flows.stranger import DESTROY_STRANGER
from services.vm.repository import VmRepository
from services.vm.size import Size
from services.vm.state import ALLOWED, STEADY, check_allowed
from services.vm.tags import STATIC_IP, check_static_ips


class VmService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.vms = VmRepository(node.query)

    async def start(self) -> None:
        expunger = Expunger(self.node, self.vms)
        self.node.periodic.every(
            "vm.expunge", lambda: float(self.node.config.get(EXPUNGE_INTERVAL)), expunger.look_through
        )

    # what may be asked

    @validate
    def check_create(self, tx: Tx, msg: CreateVm, caller: Caller) -> None:
        self.size_of(tx, msg.instance_offering_uuid, msg.cpu, msg.memory)
        self.node.tags.check("vm", msg.system_tags, caller.admin)
        check_static_ips(self.node.tags.ephemeral(STATIC_IP, msg.system_tags), msg.l3_network_uuids)

    @validate
    def check_resize(self, tx: Tx, msg: ChangeVmOffering, caller: Caller) -> None:
        self.size_of(tx, msg.instance_offering_uuid, msg.cpu, msg.memory)
        self._check(tx, msg.uuid, "change-offering")

    @validate
    def check_start(self, tx: Tx, msg: StartVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "start")

    @validate
    def check_stop(self, tx: Tx, msg: StopVm, caller: Caller) -> None:
        _check_settle(msg, caller)
        self._check(tx, msg.uuid, "stop")

    @validate
    def check_destroy(self, tx: Tx, msg: DestroyVm, caller: Caller) -> None:
        _check_settle(msg, caller)

    @validate
    def check_reboot(self, tx: Tx, msg: RebootVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "reboot")

    @validate
    def check_pause(self, tx: Tx, msg: PauseVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "pause")

    @validate
    def check_resume(self, tx: Tx, msg: ResumeVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "resume")

    @validate
    def check_migrate(self, tx: Tx, msg: MigrateVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "migrate")

    @validate
    def check_recover(self, tx: Tx, msg: RecoverVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "recover")

    @validate
    def check_expunge(self, tx: Tx, msg: ExpungeVm, caller: Caller) -> None:
        self._check(tx, msg.uuid, "expunge")

    @validate
    def check_attach(self, tx: Tx, msg: AttachNic, caller: Caller) -> None:
        self._check(tx, msg.uuid, "attach-nic")

    @validate
    def check_detach(self, tx: Tx, msg: DetachNic, caller: Caller) -> None:
        self._check(tx, msg.uuid, "detach-nic")

    # what is done

    @job(CREATE_VM)
    def create(self, msg: CreateVm, work: WorkToken) -> CreateContext:
        nics = sorted(
            self.node.uuids.draw() for _ in msg.l3_network_uuids
        )  # inventories list them in this order
        return CreateContext(uuid=work.resource_uuid, msg=msg, nic_uuids=nics)

    @job(START_VM)
    def start_vm(self, msg: StartVm, work: WorkToken) -> StartContext:
        return StartContext(uuid=msg.uuid, wanted_host_uuid=msg.host_uuid)

    @job(STOP_VM)
    def stop_vm(self, msg: StopVm, work: WorkToken) -> StopContext:
        return StopContext(uuid=msg.uuid, force=msg.force, settle=msg.settle)

    @job(REBOOT_VM)
    def reboot(self, msg: RebootVm, work: WorkToken) -> VmContext:
        return VmContext(uuid=msg.uuid)

    @job(PAUSE_VM)
    def pause(self, msg: PauseVm, work: WorkToken) -> VmContext:
        return VmContext(uuid=msg.uuid)

    @job(RESUME_VM)
    def resume(self, msg: ResumeVm, work: WorkToken) -> VmContext:
        return VmContext(uuid=msg.uuid)

    @job(MIGRATE_VM)
    def migrate(self, msg: MigrateVm, work: WorkToken) -> MigrateContext:
        return MigrateContext(uuid=msg.uuid, wanted_host_uuid=msg.host_uuid)

    @job(DESTROY_VM)
    def destroy(self, msg: DestroyVm, work: WorkToken) -> DestroyContext:
        return DestroyContext(uuid=msg.uuid, for_good=msg.force, settle=msg.settle)

    @job(CHANGE_OFFERING)
    def change_offering(self, msg: ChangeVmOffering, work: WorkToken) -> ResizeContext:
        return ResizeContext(uuid=msg.uuid, msg=msg)

    @job(ATTACH_NIC)
    def attach_nic(self, msg: AttachNic, work: WorkToken) -> AttachContext:
        return AttachContext(uuid=msg.uuid, msg=msg, nic_uuid=self.node.uuids.draw())

    @job(DETACH_NIC)
    def detach_nic(self, msg: DetachNic, work: WorkToken) -> VmContext:
        return VmContext(uuid=msg.uuid, nic_uuid=msg.nic_uuid)

    @job()
    def update(self, tx: Tx, msg: UpdateVm) -> Vm:
        changed = changes(msg, "uuid")
        resource.change(tx, VM, msg.uuid, **changed)
        tx.record(VmChanged(resource_uuid=msg.uuid, fields=sorted(changed)))
        return self.vms.inventory(tx, msg.uuid)

    @job()
    def recover(self, tx: Tx, msg: RecoverVm) -> Vm:
        row = self.vms.get(tx, msg.uuid)
        check_allowed("recover", row.state, row.uuid)
        self.vms.move(tx, row, VmState.STOPPED, destroyed_at=None)
        return self.vms.inventory(tx, msg.uuid)

    @job()
    def expunge(self, tx: Tx, msg: ExpungeVm) -> Vm:
        vm = self.vms.inventory(tx, msg.uuid)
        check_allowed("expunge", vm.state, vm.uuid)
        forget(self, tx, VmContext(uuid=vm.uuid))
        return vm

    @job()
    def observe(self, tx: Tx, msg: ObserveVm) -> Nothing:
        return sync.observe(self, tx, msg)

    @job(MOVE_OFF)
    def move_off(self, msg: MoveOff, work: WorkToken) -> MigrateContext:
        return MigrateContext(uuid=msg.uuid, only_from=msg.host_uuid)

    @job(DESTROY_STRANGER)
    def destroy_stranger(self, msg: DestroyStranger, work: WorkToken) -> VmContext:
        return VmContext(uuid=msg.vm_uuid, host_uuid=msg.host_uuid)

    @handler()
    async def migration_candidates(self, msg: GetMigrationCandidates, caller: Caller) -> CandidateHosts:
        def look(tx: Tx) -> CandidateHosts:
            vm: Vm = self.node.query.get(tx, VM, msg.uuid, caller=caller)
            if vm.state not in ALLOWED["migrate"]:
                return CandidateHosts(items=[])
            found = tx.call(FindHosts(request=request(vm)))
            names = {
                h.uuid: h.name for h in self.node.query.find(tx, HOST, f"cluster_uuid={vm.cluster_uuid}")
            }
            return CandidateHosts(
                items=[CandidateHost(uuid=c.host_uuid, name=names[c.host_uuid]) for c in found]
            )

        return await self.node.db.read(look)

    # what flows ask for

    def size_of(self, tx: Tx, offering: str | None, cpu: int | None, memory: int | None) -> Size:
        """The size that was asked for. Raises vm.no-size or vm.offering-disabled."""
        if offering is not None:
            if cpu is not None or memory is not None:
                raise VM_NO_SIZE.error("give an instance offering, or cpu and memory, not both")
            found: InstanceOffering = self.node.query.get(tx, INSTANCE_OFFERING, offering)
            if found.state != "Enabled":
                raise VM_OFFERING_DISABLED.error(
                    f"the instance offering {found.name!r} is disabled", resource=offering
                )
            return Size(cpu=found.cpu, memory=found.memory, allocator_strategy=found.allocator_strategy)
        if cpu is None or memory is None:
            raise VM_NO_SIZE.error("give an instance offering, or cpu and memory")
        return Size(cpu=cpu, memory=memory)

    def next_device(self, tx: Tx, uuid: str) -> int:
        """The lowest device index no NIC of the VM has."""
        used = {nic.device_index for nic in tx.call(ListNics(vm_uuid=uuid)).nics}
        return next(index for index in range(len(used) + 1) if index not in used)

    def _check(self, tx: Tx, uuid: str, operation: str) -> None:
        """Refuses at once what the state forbids; what a job is changing right now is decided when its turn comes."""
        state = self.vms.get(tx, uuid).state
        if state in STEADY:
            check_allowed(operation, state, uuid)


def _check_settle(msg: StopVm | DestroyVm, caller: Caller) -> None:
    if msg.settle and not caller.admin:
        raise DENIED.error("only an operator can say that a host is gone for good", resource=msg.uuid)
