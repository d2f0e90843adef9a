// Measures what comes back, with nothing of the page's own meters: pitch by zero crossings.
(async () => {
  const { pc, remote } = antiphon.echo.session;
  const context = new AudioContext();
  await context.resume();
  const analyser = new AnalyserNode(context, { fftSize: 32768 });
  context.createMediaStreamSource(remote).connect(analyser);
  const energy = async () => {
    const stats = [...(await pc.getStats()).values()].find(({ type }) => type === 'inbound-rtp');
    return [stats.totalAudioEnergy, stats.totalSamplesDuration];
  };
  // The jitter buffer stretches the first moments; what is measured is the settled sound.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const [energy_before, duration_before] = await energy();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const [energy_after, duration_after] = await energy();
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  // A crossing counts once per swing, and the middle period stands for all, so that a moment
  // concealed by the jitter buffer does not decide.
  const rising = [];
  let armed = false;
  for (let i = 1; i < samples.length; i += 1) {
    if (samples[i] < -0.05) armed = true;
    if (armed && samples[i] >= 0) {
      rising.push(i - samples[i] / (samples[i] - samples[i - 1]));
      armed = false;
    }
  }
  const periods = rising.slice(1).map((at, index) => at - rising[index]).sort((a, b) => a - b);
  const hertz = context.sampleRate / periods[Math.floor(periods.length / 2)];
  const rms = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
  await context.close();
  const energy_a_second = (energy_after - energy_before) / (duration_after - duration_before);
  return { hertz, rms, energy: energy_a_second };
})()
