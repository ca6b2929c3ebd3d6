import { describe, expect, it } from 'vitest';
import { createEventParser, type StreamEvent } from '../src/eventStream';

const parse = (...chunks: string[]): StreamEvent[] => {
  const events: StreamEvent[] = [];
  const push = createEventParser((event) => events.push(event));
  for (const chunk of chunks) push(chunk);
  return events;
};

const TEXT =
  ': hello\nevent: change\nid: e:1\ndata: {"a":1}\n\nevent: head\r\ndata: 2\r\n\r\ndata: x\rdata: y\r\r';
const EVENTS = [
  { event: 'change', data: '{"a":1}', id: 'e:1' },
  { event: 'head', data: '2', id: 'e:1' },
  { event: 'message', data: 'x\ny', id: 'e:1' },
];

describe('the event stream', () => {
  it('reads events with every kind of line end', () => {
    expect(parse(`${TEXT}\n`)).toEqual(EVENTS);
  });
  it('reads the same however the network cuts it', () => {
    for (let cut = 1; cut < TEXT.length; cut++) {
      expect(parse(TEXT.slice(0, cut), `${TEXT.slice(cut)}\n`)).toEqual(EVENTS);
    }
  });
  it('does not keep an event that never ends', () => {
    const push = createEventParser(() => undefined);
    expect(() => {
      for (let i = 0; i < 6; i++) push(`data: ${'x'.repeat(1_000_000)}\n`);
    }).toThrow(RangeError);
  });
});
