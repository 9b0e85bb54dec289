"""Which states there are, what they mean, and which may follow which. Pure.

`docs/states.md` draws these tables; a test keeps the drawing and the tables in step.
"""

from enum import StrEnum


class PredictionStatus(StrEnum):
    STARTING = "starting"  #: Waits for a slot, or for its Instance to boot.
    PROCESSING = "processing"  #: A container runs it.
    SUCCEEDED = "succeeded"  #: The model returned.
    FAILED = "failed"  #: The model raised, or the platform could not run it; `error` says which.
    CANCELED = "canceled"  #: Its owner, or its deadline, stopped it.
    ABORTED = "aborted"  #: Its deadline passed before it started. Free of charge.

    @property
    def is_terminal(self) -> bool:
        return self not in LIVE_PREDICTION


LIVE_PREDICTION = (PredictionStatus.STARTING, PredictionStatus.PROCESSING)

#: (from, to): the verbs in core/predictions.py, or core/unstarted.py, that move it.
PREDICTION_EDGES: dict[tuple[PredictionStatus, PredictionStatus], str] = {
    (PredictionStatus.STARTING, PredictionStatus.PROCESSING): "start",
    (PredictionStatus.STARTING, PredictionStatus.CANCELED): "cancel, cancel_target",
    (PredictionStatus.STARTING, PredictionStatus.FAILED): "refuse",
    (PredictionStatus.STARTING, PredictionStatus.ABORTED): "expire",
    (PredictionStatus.PROCESSING, PredictionStatus.STARTING): "interrupt",
    (PredictionStatus.PROCESSING, PredictionStatus.SUCCEEDED): "finish",
    (PredictionStatus.PROCESSING, PredictionStatus.FAILED): "finish, interrupt",
    (PredictionStatus.PROCESSING, PredictionStatus.CANCELED): "finish, interrupt",
}


class FailureCode(StrEnum):
    """Why a prediction failed, or was stopped. Ours start with `platform_`: those cost nothing."""

    MODEL = "model_error"  #: The model raised; `error` is its own message.
    TIMEOUT = "timeout"  #: It ran longer than its Version allows.
    CONTAINER_LOST = "container_lost"  #: The container died while it ran.
    NODE_LOST = "platform_node_lost"  #: The node died, or stopped reporting, while it ran.
    STORE = "platform_store_failed"  #: The files it made could not be kept.
    SETUP = "setup_failed"  #: No container of its Version became ready.
    INSUFFICIENT_FUNDS = "insufficient_funds"  #: Its Account's money was used up while it ran; it is canceled.
    PREPARATION = "preparation_failed"  #: Its Version's environment or image could not be made ready.


class InstanceStatus(StrEnum):
    PENDING = "pending"  #: The scheduler wants it on a node.
    STARTING = "starting"  #: The node makes the artifact ready and boots the container.
    READY = "ready"  #: Setup is done; it takes predictions.
    DRAINING = "draining"  #: It finishes what runs and takes nothing new.
    STOPPED = "stopped"  #: Its container is gone, as was wanted.
    FAILED = "failed"  #: Its container is gone, as was not wanted; `reason` says why.

    @property
    def is_terminal(self) -> bool:
        return self not in LIVE_INSTANCE


LIVE_INSTANCE = (
    InstanceStatus.PENDING,
    InstanceStatus.STARTING,
    InstanceStatus.READY,
    InstanceStatus.DRAINING,
)

#: (from, to): the verbs in core/fleet.py that move it. Its node calls `move_instance`; the scheduler calls
#: `declare_lost`, which may end an Instance wherever it is.
INSTANCE_EDGES: dict[tuple[InstanceStatus, InstanceStatus], str] = {
    (InstanceStatus.PENDING, InstanceStatus.STARTING): "move_instance",
    (InstanceStatus.PENDING, InstanceStatus.STOPPED): "move_instance",
    (InstanceStatus.PENDING, InstanceStatus.FAILED): "move_instance, declare_lost",
    (InstanceStatus.STARTING, InstanceStatus.READY): "move_instance",
    (InstanceStatus.STARTING, InstanceStatus.STOPPED): "move_instance",
    (InstanceStatus.STARTING, InstanceStatus.FAILED): "move_instance, declare_lost",
    (InstanceStatus.READY, InstanceStatus.DRAINING): "move_instance",
    (InstanceStatus.READY, InstanceStatus.FAILED): "move_instance, declare_lost",
    (InstanceStatus.DRAINING, InstanceStatus.STOPPED): "move_instance",
    (InstanceStatus.DRAINING, InstanceStatus.FAILED): "move_instance, declare_lost",
}


class NodeFault(StrEnum):
    """Reasons for which an Instance fails through no fault of its Version. Every other one is its container's."""

    LOST = "Its node stopped reporting."
    STOPPED = "Its node was stopped."
    UNWATCHED = "Nobody watched over its container."


class VersionStatus(StrEnum):
    PREPARING = "preparing"  #: Its environment is built, or its image read.
    READY = "ready"
    FAILED = "failed"  #: `status_reason` says why.


#: (from, to): the verbs in core/catalog.py that move it.
VERSION_EDGES: dict[tuple[VersionStatus, VersionStatus], str] = {
    (VersionStatus.PREPARING, VersionStatus.READY): "prepared",
    (VersionStatus.PREPARING, VersionStatus.FAILED): "preparation_failed",
    (VersionStatus.FAILED, VersionStatus.PREPARING): "prepare_again",
    (VersionStatus.FAILED, VersionStatus.READY): "prepared",
}


class DeliveryStatus(StrEnum):
    PENDING = "pending"  #: Owed; `next_attempt_at` says when.
    DELIVERED = "delivered"  #: The receiver answered 2xx.
    GIVEN_UP = "given_up"  #: Every attempt failed, or the receiver said that it is gone; all are on record.


#: (from, to): the verbs in core/webhooks.py that move it.
DELIVERY_EDGES: dict[tuple[DeliveryStatus, DeliveryStatus], str] = {
    (DeliveryStatus.PENDING, DeliveryStatus.DELIVERED): "record_attempt",
    (DeliveryStatus.PENDING, DeliveryStatus.GIVEN_UP): "record_attempt",
    (DeliveryStatus.DELIVERED, DeliveryStatus.PENDING): "replay",
    (DeliveryStatus.GIVEN_UP, DeliveryStatus.PENDING): "replay, recover",
}


class WebhookEvent(StrEnum):
    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"
