"""Examples: predictions by which owners show what their Models do. They are shown to all who see the Model.

The first one added is the Model's default. Whoever removes old data leaves examples alone.
"""

from sqlalchemy import Row, Text, cast, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import Conflict, NotFound
from core.lifecycle import PredictionStatus
from core.people import audit
from core.tables import ModelExample, Prediction, Version

_PREDICTION = Prediction.__table__.c
_MISSING = "The requested prediction could not be found."
#: Every list of Models, which anybody may ask for, carries a page of default examples.
_MOST_BYTES = 256 * 1024
_BYTES = sum(
    (func.coalesce(func.octet_length(cast(column, Text)), 0) for column in (_PREDICTION.output, _PREDICTION.logs)),
    func.octet_length(cast(_PREDICTION.input, Text)),
)


async def list_page(tx: Transaction, model_id: str, after: tuple | None, limit: int) -> list[Row]:
    """Predictions with `added_at`, in the order they were added; `after` is the (added_at, id) of the last one seen."""
    statement = (
        select(*_PREDICTION, ModelExample.created_at.label("added_at"))
        .join(ModelExample, ModelExample.prediction_id == Prediction.id)
        .where(ModelExample.model_id == model_id, ~Prediction.data_removed)
    )
    position = (ModelExample.created_at, ModelExample.prediction_id)
    if after is not None:
        statement = statement.where(tuple_(*position) > after)
    return list(await tx.all(statement.order_by(*position).limit(limit)))


async def firsts(tx: Transaction, model_ids: list[str]) -> dict[str, Row]:
    """The default example of each Model that has one."""
    found = (
        select(ModelExample.model_id, ModelExample.prediction_id)
        .ext(distinct_on(ModelExample.model_id))
        .join(Prediction, Prediction.id == ModelExample.prediction_id)
        .where(ModelExample.model_id.in_(model_ids), ~Prediction.data_removed)
        .order_by(ModelExample.model_id, ModelExample.created_at, ModelExample.prediction_id)
        .subquery()
    )
    rows = await tx.all(select(*_PREDICTION, found.c.model_id).join(found, found.c.prediction_id == Prediction.id))
    return {row.model_id: row for row in rows}


async def add(tx: Transaction, model: Row, account_id: str, prediction_id: str) -> Row:
    """One that is an example already stays what it is.

    Raises `NotFound`, or `Conflict` if it shows nothing, or too much.
    """
    # Locked, so that its data are not removed in the meantime; and not read before it is known to be small.
    facts = (_PREDICTION.id, _PREDICTION.status, _PREDICTION.data_removed, _BYTES.label("bytes"))
    row = await tx.first(
        select(*facts, Version.model_id, Version.deleted_at)
        .outerjoin(Version, Version.id == Prediction.version_id)
        .where(Prediction.id == prediction_id, Prediction.account_id == account_id)
        .with_for_update(of=Prediction)
    )
    if row is None:
        raise NotFound(_MISSING)
    _require_showing(model, row)
    added = await tx.first(
        upsert(ModelExample)
        .values(model_id=model.id, prediction_id=prediction_id)
        .on_conflict_do_nothing(index_elements=["model_id", "prediction_id"])
        .returning(ModelExample.prediction_id)
    )
    if added is not None:
        await audit.record(tx, "example.create", _name(model, prediction_id), account_id=model.owner_id)
    return await tx.one(select(*_PREDICTION).where(Prediction.id == prediction_id))


def _require_showing(model: Row, row: Row) -> None:
    name = f"{model.owner}/{model.name}"
    if row.model_id != model.id or row.deleted_at is not None:
        raise Conflict(f"Prediction {row.id} is no run of a version that {name} has.")
    if row.status != PredictionStatus.SUCCEEDED:
        raise Conflict(f"Prediction {row.id} is {row.status}: only one that succeeded can be an example.")
    if row.data_removed:
        raise Conflict(f"The data of prediction {row.id} have been removed: make a new one, and take that.")
    if row.bytes > _MOST_BYTES:
        raise Conflict(
            f"Input, output and logs of prediction {row.id} are {row.bytes} bytes, and an example has at most "
            f"{_MOST_BYTES}: send long inputs as files, or take another one."
        )


async def remove(tx: Transaction, model: Row, prediction_id: str) -> None:
    """It is a prediction like others again, and removed when they are."""
    removed = await tx.execute(
        delete(ModelExample).where(ModelExample.model_id == model.id, ModelExample.prediction_id == prediction_id)
    )
    if not removed.rowcount:
        raise NotFound(f"Prediction {prediction_id} is no example of {model.owner}/{model.name}.")
    await audit.record(tx, "example.delete", _name(model, prediction_id), account_id=model.owner_id)


def _name(model: Row, prediction_id: str) -> str:
    return f"example:{prediction_id} of {model.owner}/{model.name}"


async def forget_version(tx: Transaction, model_id: str, version_id: str) -> None:
    of_version = Prediction.id == ModelExample.prediction_id, Prediction.version_id == version_id
    await tx.execute(delete(ModelExample).where(ModelExample.model_id == model_id, *of_version))
