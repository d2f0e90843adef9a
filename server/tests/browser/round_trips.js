// The round trips, in seconds, that the server has of the sessions that publish.
(async () => {
  const read = async (path) => (await fetch(path)).json();
  const { sessions } = await read('/api/sessions');
  const publishers = sessions.filter(({ role }) => role === 'publish');
  return Promise.all(publishers.map(async ({ id }) =>
    (await read(`/api/sessions/${id}/stats`)).rtt));
})()
