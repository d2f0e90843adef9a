// Ten seconds of what one tab receives from the other.
(async () => {
  const [member] = [...antiphon.room.members.values()];
  const reports = async () => {
    const all = [...(await member.session.pc.getStats()).values()]
      .filter(({ type }) => type === 'inbound-rtp');
    const [video, audio] = ['video', 'audio'].map((kind) => all.find((s) => s.kind === kind));
    return { video, audio };
  };
  // A busy browser shows a picture some time before it reports on it; a report comes once and stays.
  const read = async () => {
    for (let tries = 50; tries > 0; tries -= 1) {
      const { video, audio } = await reports();
      if (video && audio) return { video, audio };
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error('the browser reports on no audio or no video that it receives');
  };
  const first = await read();
  const end = performance.now() + 10_000;
  let frames = first.video.framesDecoded;
  let moved_at = performance.now();
  let still_ms_max = 0;
  let smallest = [Infinity, Infinity];
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { video } = await read();
    const now = performance.now();
    still_ms_max = Math.max(still_ms_max, now - moved_at);
    if (video.framesDecoded > frames) {
      frames = video.framesDecoded;
      moved_at = now;
    }
    smallest = [Math.min(smallest[0], video.frameWidth), Math.min(smallest[1], video.frameHeight)];
  }
  const last = await read();
  return {
    width: smallest[0],
    height: smallest[1],
    frames: last.video.framesDecoded - first.video.framesDecoded,
    still_ms_max,
    frozen_s: last.video.totalFreezesDuration - first.video.totalFreezesDuration,
    energy: last.audio.totalAudioEnergy - first.audio.totalAudioEnergy,
  };
})()
