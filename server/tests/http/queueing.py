"""Says more than fits ahead, is interrupted, and answers that. Tells by a mark that what was never sent is known to be
interrupted as well."""

import asyncio
import sys

from antiphon_voice import BargeIn, Playout, wait_for_calls

SECOND = bytes(2 * 16_000)


async def answer(call):
    said = [await call.say(3 * SECOND), await call.say(60 * SECOND)]
    waiting = [await call.say(SECOND), await call.say(iter([SECOND]))]
    async for event in call:
        if isinstance(event, BargeIn):
            for it in waiting:
                assert (await it).interrupted and it.played == 0, it.state
            said.append(await call.say(SECOND))
        elif isinstance(event, Playout) and event.state == "finished":
            assert (await said[1]).interrupted and said[1].played == 1.5, said[1].state
            assert (await said[2]).state == "finished", said[2].state
            await call.mark()


asyncio.run(wait_for_calls("queueing", answer, sys.argv[1]))
