"""Clears what it says after no time, or little, and waits for events in vain again and again; neither may end the call.
At last it sets a mark: the sign that the call lives and nothing is awaited."""

import asyncio
import sys

from antiphon_voice import wait_for_calls

SECOND = bytes(2 * 16_000)


async def clear_soon(call):
    for delay in (None, 0, 0, 0.0005, 0.001, 0.02, 0.1):
        for everything in (False, True):
            said = await call.say(SECOND)
            if delay is not None:
                await asyncio.sleep(delay)
            await call.clear(None if everything else said)
            assert (await said).state == "cleared", said.state
    await call.mark()


async def answer(call):
    clearing = asyncio.create_task(clear_soon(call))
    while not call.ended:
        try:
            await asyncio.wait_for(anext(call), 0.005)
        except TimeoutError:
            continue
        except StopAsyncIteration:
            break
    clearing.cancel()


asyncio.run(wait_for_calls("clearing", answer, sys.argv[1]))
