// Reads one event stream in two pieces, cut at every place, and one character at a time.
(async () => {
  const { EventParser } = await import('/page/api.js');
  const stream = ': hello\r\n\r\nevent: joined\r\ndata: {"participant":\r\ndata: "anna"}\r\n\r\n' +
    'event:left\ndata:{"participant":"ben"}\nid: 7\n\nevent: empty\n\n' +
    'data: not json\n\ndata: 5\r\revent: cut off\ndata: 6\n';
  const read = (pieces) => {
    const parser = new EventParser();
    return JSON.stringify(pieces.flatMap((piece) => parser.push(piece)));
  };
  const wanted = JSON.stringify([
    { name: 'joined', value: { participant: 'anna' } },
    { name: 'left', value: { participant: 'ben' } },
    { name: 'message', value: 5 },
  ]);
  const cuts = [...stream].map((_, at) => [stream.slice(0, at), stream.slice(at)]);
  return [...cuts, [...stream], [stream]].map(read).filter((got) => got !== wanted);
})()
