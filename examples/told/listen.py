"""Do something whenever another forecast is live, as a broker tells it.

python listen.py nats://our-broker:4222 PLACE"""

import asyncio, json, sys
from datetime import datetime
import nats
from nats.errors import Error
from nats.js.errors import NotFoundError
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.follow import load_live

SUBJECT = "cd4ml.released"
MOMENT = 2  # Seconds between two looks at what is not there yet
PATIENT = 100  # Looks, a tenth of a second each, after which a broker hears that a message is still worked at


def say(line):
    "One line, at once."
    print(line, flush=True)


def follows(card, said):
    "Whether what is followed is the model of which a message speaks, or one that went live after it."
    if card["model_version"] == said["model_version"]:
        return card["forecast_origin"] >= said.get("day", "")
    told = said.get("time")  # a night has none in messages of before 28 November 2026
    return told is None or datetime.fromisoformat(card["live_since"]) > datetime.fromisoformat(told)


async def stands(live, message):
    "The live model, once it is what a message speaks of; the broker is told to be patient for as long as that takes."
    said = json.loads(message.data)
    for look in range(sys.maxsize):
        if follows(live.current().card, said):
            return live.current()
        if look % PATIENT == 0:
            await message.in_progress()
        if look == PATIENT:
            say(f"{said['model_version']} is told, and not there yet; waiting for it.")
        await asyncio.sleep(0.1)


async def connect(broker):
    "A connection that lasts: however long the broker is away, it waits, and says so once."
    away = False

    async def lost(error=None):
        nonlocal away
        if not away:
            why = "does not let us in" if "uthorization" in str(error) else "cannot be reached"
            say(f"{broker} {why}; waiting for it.")
            away = True

    async def back():
        nonlocal away
        say(f"{broker} is there again.")
        away = False

    async def trouble(error):
        if not connection.is_connected:
            await lost(error)

    connection = nats.NATS()
    hear = {"disconnected_cb": lost, "reconnected_cb": back, "error_cb": trouble}
    await connection.connect(broker, max_reconnect_attempts=-1, reconnect_time_wait=MOMENT, **hear)
    if away:
        await back()
    return connection


async def subscribe(connection):
    "What is told under the subject: there once something was published."
    for look in range(sys.maxsize):
        try:
            return await connection.jetstream().subscribe(SUBJECT, durable="trucks", manual_ack=True)
        except NotFoundError:
            if not look:
                say("Nothing was published yet; waiting for it.")
        except Error:  # the broker went away meanwhile
            if connection.is_connected:
                raise
        await asyncio.sleep(MOMENT)


async def main(broker, place):
    "Listen for ever. What came while nobody listened is told first, and what was not finished is told again."
    live = load_live(place)
    news = await subscribe(await connect(broker))
    async for message in news.messages:
        model = await stands(live, message)
        units = model.arrays()["mean"].sum()
        say(f"{model.card['model_version']} is live from {model.card['first_day']} on: {units:,.0f} units in all.")
        await message.ack()
    raise UserError(f"{broker} has ended the connection, so nobody listens any more.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (UserError, Error) as e:
        raise SystemExit(str(e)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
