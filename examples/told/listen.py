"""Do something whenever another forecast is live, as a broker tells it.

python listen.py nats://our-broker:4222 PLACE"""

import asyncio, json, sys
import nats
from nats.errors import Error
from nats.js.errors import NotFoundError
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.follow import load_live

SUBJECT = "cd4ml.released"
MOMENT = 2  # Seconds between two looks at what is not there yet


def say(line):
    "One line, at once."
    print(line, flush=True)


async def stands(live, said):
    "The model of which a message speaks, or a later one: what is followed comes a second or two after the word of it."
    for _ in range(100):
        card = live.current().card
        if card["model_version"] == said["model_version"] and card["forecast_origin"] >= said.get("day", ""):
            break
        await asyncio.sleep(0.1)
    return live.current()


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
        model = await stands(live, json.loads(message.data))
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
