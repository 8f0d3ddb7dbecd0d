"""Limits of a number: by the second and by the day, for all workers together."""

from dataclasses import replace

from tests.integration.delivery.test_sms_channel import (
    OUR_NUMBER,
    again,
    gates,
    outbound,
    sends,
    states,
    worker_of,
)
from tests.support.world import HandDrivenWorker, World


def people_write(world: World, mike: HandDrivenWorker, count: int, **more: str) -> None:
    for number in range(count):
        envelope = {"recipient": OUR_NUMBER, **more}
        mike.receive(world.envelope("hi", user=f"+1312555{number:04}", **envelope))


def test_each_message_reserves_its_moment_and_costs_no_attempt_before_it(world: World) -> None:
    workers = [worker_of(world, options="messages_per_second = 0.1") for _ in range(2)]
    people_write(world, workers[0], 4)
    for user in workers[0].broker.deliveries:
        for worker in workers:
            worker.service.deliver(user)
    assert states(world) == ["sent", "pending", "pending", "pending"]
    waits = world.database.rows(
        "SELECT attempts, round(extract(epoch FROM due_at - service_now())) AS s"
        " FROM deliveries WHERE state = 'pending' ORDER BY id"
    )
    assert [row["attempts"] for row in waits] == [0, 0, 0]
    assert [int(row["s"]) for row in waits] == [10, 20, 30]
    again(world, workers[1], 11)
    assert states(world) == ["sent", "sent", "pending", "pending"]
    again(world, workers[0], 20)
    assert len(sends(world)) == 4


def test_a_moment_that_is_near_is_waited_for(world: World) -> None:
    mike = worker_of(world, options="messages_per_second = 2.0")
    people_write(world, mike, 3)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.clock.advance(seconds)

    deliver = replace(mike.service.deliver, sleep=sleep)
    for user in mike.broker.deliveries:
        deliver(user)
    assert len(outbound(world)) == 3
    assert all(0 < seconds <= 0.5 for seconds in slept)
    assert len(slept) == 2


def test_the_days_messages_end_in_a_gate_of_that_number_until_midnight(world: World) -> None:
    mike = worker_of(world, options="messages_per_day = 2")
    people_write(world, mike, 4)
    mike.receive(world.envelope("hi", user="+13125559999", recipient="+13125550199"))
    mike.deliver()
    assert states(world) == ["sent", "sent", "pending", "pending", "sent"]
    ((gate, reason),) = gates(world)
    assert gate.startswith("telnyx:sms:")
    assert reason == "messages_per_day"
    assert world.database.value("SELECT max(attempts) FROM deliveries WHERE state = 'pending'") == 0
    # The next day they are too old: what waited until then is not sent.
    again(world, mike, 86_400)
    assert states(world) == ["sent", "sent", "expired", "expired", "sent"]
    people_write(world, mike, 1)
    mike.deliver()
    assert states(world)[-1] == "sent"


def test_what_would_go_out_too_late_reserves_nothing(world: World) -> None:
    mike = world.worker(
        '[channels.sms]\ndriver = "telnyx"\ndelivery_max_age_s = 15\n'
        "[channels.sms.telnyx]\nmessages_per_second = 0.1\n"
    )
    people_write(world, mike, 5)
    mike.deliver()
    assert states(world) == ["sent", *["pending"] * 4]
    ahead = world.database.value("SELECT extract(epoch FROM free_at - service_now()) FROM rates")
    assert ahead <= 25
    again(world, mike, 16)
    again(world, mike, 16)
    assert "pending" not in states(world)


def test_a_retry_needs_another_permit(world: World) -> None:
    mike = worker_of(world, options="messages_per_second = 0.05")
    world.simulator.inject("503", endpoint="send")
    people_write(world, mike, 1)
    mike.deliver()
    again(world, mike, 6)
    assert len(sends(world)) == 1
    again(world, mike, 35)
    assert states(world) == ["sent"]
