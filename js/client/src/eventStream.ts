/** One Server-Sent Event. `id` is the last id seen, as the standard has it. */
export interface StreamEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

/** Longest text kept while waiting for an event's end: a stream that never ends one must not fill memory. */
const PENDING_MAX_CHARS = 4_000_000;

/** Sans-I/O parser of `text/event-stream`: chunks of text in, events out. Throws RangeError past its bound. */
export function createEventParser(onEvent: (event: StreamEvent) => void): (chunk: string) => void {
  let rest = '';
  let event = '';
  let data: string[] = [];
  let dataChars = 0;
  let id = '';

  const line = (text: string): void => {
    if (text === '') {
      if (data.length > 0) onEvent({ event: event || 'message', data: data.join('\n'), id });
      event = '';
      data = [];
      dataChars = 0;
      return;
    }
    const colon = text.indexOf(':');
    if (colon === 0) return; // a comment: only proof that the line is alive
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') event = value;
    else if (field === 'id' && !value.includes('\0')) id = value;
    else if (field === 'data') {
      dataChars += value.length;
      data.push(value);
    }
  };

  return (chunk) => {
    rest += chunk;
    // A lone CR at the very end may be half of a CRLF: it waits for the next chunk.
    const usable = rest.endsWith('\r') ? rest.length - 1 : rest.length;
    const lines = rest.slice(0, usable).split(/\r\n|\n|\r/);
    rest = (lines.pop() ?? '') + rest.slice(usable);
    for (const text of lines) line(text);
    if (rest.length + dataChars > PENDING_MAX_CHARS) throw new RangeError('event too long');
  };
}

/** Reads an answer's body as events until it ends; `onHeard` after every sign of life. Raises what the network raises. */
export async function readEvents(
  response: Response,
  onHeard: () => void,
  onEvent: (event: StreamEvent) => void,
): Promise<void> {
  if (response.body === null) throw new Error('an event stream without a body');
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const push = createEventParser(onEvent);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    push(decoder.decode(value, { stream: true }));
    onHeard();
  }
}
