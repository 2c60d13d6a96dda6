"""Section 13 of 3.x: serializers, compression, signatures, and your own; on every storage."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from huey.consumer_options import ConsumerConfig
from huey.exceptions import ConfigurationError, DecodeError
from huey.serializer import Serializer, SignedSerializer
from tests.support.helpers import for_queue, running

MakeHuey = Callable[..., Huey]


class Json(Serializer):
    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        return json.loads(data)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": True},
        {"compression": True, "use_zlib": True},
        {"serializer": Serializer(compression=True, compression_level=9)},
        {"serializer": Serializer(compression=True, use_zlib=True)},
        {"serializer": SignedSerializer("secret")},
        {"serializer": SignedSerializer("secret", salt="other", compression=True)},
        {"serializer": Json()},
        {"serializer": Json(compression=True)},
    ],
)
def test_arguments_results_errors_and_user_data_survive(make_huey: MakeHuey, options: dict[str, Any]) -> None:
    huey = make_huey(**options)
    echo = huey.task()(lambda data: data)
    data = {"text": "x" * 1000, "n": [1, 2.5, None]}
    huey.put("k", data)

    with running(huey):
        assert echo(data).get(blocking=True, timeout=10) == data
    assert huey.get("k") == data
    assert huey.deserialize_task(huey.serialize_task(echo.s(data))).args == (data,)


def test_compression_makes_it_smaller(make_huey: MakeHuey) -> None:
    huey = make_huey(compression=True)
    huey.task()(lambda data: data)("x" * 100_000)

    (row,) = huey.storage.find("ready")
    assert len(row.payload) < 2000


def test_compressed_reads_what_was_written_before_it_was_on(huey: Huey) -> None:
    huey.task(name="app.echo")(lambda data: data)(5)
    with_it = for_queue(huey, compression=True)
    with_it.task(name="app.echo")(lambda data: data)

    task = with_it.dequeue()

    assert task is not None
    assert with_it.execute(task) == 5


def test_a_serializer_alone_adds_compression(caplog: pytest.LogCaptureFixture) -> None:
    plain, packed = Serializer(), Serializer(compression=True)

    assert packed.deserialize(packed.serialize([1])) == [1]
    assert packed.deserialize(plain.serialize([1])) == [1]
    assert "uncompressed message was read" in caplog.text


def test_a_signed_message_that_was_changed_is_a_value_error() -> None:
    serializer = SignedSerializer("secret")
    data = bytearray(serializer.serialize([1]))
    data[-1] ^= 1

    with pytest.raises(ValueError, match="signature") as raised:
        serializer.deserialize(bytes(data))
    assert isinstance(raised.value, DecodeError)
    with pytest.raises(ValueError, match="signature"):
        SignedSerializer("other").deserialize(serializer.serialize([1]))
    with pytest.raises(ConfigurationError):
        SignedSerializer()


# The settings of a consumer (section 17)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("huey")
    before, level = list(logger.handlers), logger.level
    yield logger
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def test_a_consumer_config(huey: Huey, tmp_path: Path, logger: logging.Logger) -> None:
    config = ConsumerConfig(workers=3, periodic=False, backoff=2, initial_delay=0.5, logfile=str(tmp_path / "log"), verbose=True)

    config.validate()
    assert config.setup_logger() is logger
    consumer = huey.create_consumer(**config.values)

    logger.debug("told")
    assert "told" in (tmp_path / "log").read_text()
    assert (consumer.workers, consumer.worker_type, consumer.periodic) == (3, "thread", False)
    assert (consumer.default_delay, consumer.backoff, consumer.max_delay, consumer.scheduler_interval) == (0.5, 2.0, 10.0, 1.0)
    consumer.stop()


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"backoff": 0.5}, {"wrokers": 1}])
def test_a_config_that_cannot_work_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConsumerConfig(**wrong).validate()


def test_a_protocol_of_pickle_is_taken(make_huey: MakeHuey) -> None:
    huey = make_huey(serializer=Serializer(pickle_protocol=4))
    huey.put("a", {"n": 1})

    assert huey.get("a") == {"n": 1}
    for protocol in (99, True, "4"):
        with pytest.raises(ConfigurationError, match="pickle_protocol="):
            Serializer(pickle_protocol=protocol)  # type: ignore[arg-type]
