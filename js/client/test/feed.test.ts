import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Change, type ChangePage, createApi, createFeed, type Feed } from '../src';
import { aChange } from './builders';

/** A change log behind a `fetch`, with the faults a network has. Time is vitest's. */
class Server {
  epoch = 'e1';
  log: Change[] = [];
  polls: URLSearchParams[] = [];
  resumed: string[] = [];
  streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  streamUp = true;
  pollUp = true;
  mute = false;
  pollDelayMs = 0;
  boast = { beats: 0, polls: 0 };

  write(n = 1): void {
    for (let i = 0; i < n; i++) {
      const entry = aChange(this.log.length + 1, { id: `g${this.log.length + 1}` });
      this.log.push(entry);
      if (!this.mute) this.say('change', entry, `${this.epoch}:${entry.seq}`);
    }
  }
  beat(): void {
    this.say('head', { epoch: this.epoch, head: this.log.length + this.boast.beats });
  }
  say(event: string, data: unknown, id = ''): void {
    const text = `event: ${event}\n${id && `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
    for (const stream of this.streams) stream.enqueue(new TextEncoder().encode(text));
  }
  cut(): void {
    for (const stream of this.streams) stream.close();
    this.streams = [];
  }
  rebuild(): void {
    this.epoch = `${this.epoch}x`;
    this.cut();
  }

  fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = new URL(String(input), 'http://x');
    if (url.pathname.endsWith('/stream')) {
      if (!this.streamUp) throw new TypeError('blocked');
      this.resumed.push(new Headers(init?.headers).get('last-event-id') ?? '');
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => {
          this.streams.push(controller);
        },
      });
      init?.signal?.addEventListener('abort', () => {
        this.streams = [];
      });
      queueMicrotask(() => this.beat());
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    }
    if (!this.pollUp) throw new TypeError('down');
    this.polls.push(url.searchParams);
    const epoch = url.searchParams.get('epoch');
    const after = Number(url.searchParams.get('after'));
    if (epoch !== null && epoch !== this.epoch) {
      return Response.json(
        { code: 'must_refetch', epoch: this.epoch, head: this.log.length },
        { status: 410 },
      );
    }
    const wait = Number(url.searchParams.get('wait')) * 1000;
    if (wait > 0 && this.log.length <= after) await new Promise((done) => setTimeout(done, wait));
    const changes = this.log.slice(after, after + Number(url.searchParams.get('limit')));
    const page: ChangePage = { epoch: this.epoch, head: this.log.length + this.boast.polls, changes };
    if (this.pollDelayMs > 0) await new Promise((done) => setTimeout(done, this.pollDelayMs));
    return Response.json(page);
  };
}

let server: Server;
let feed: Feed;
let got: number[];
let rereads: number;

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
  got = [];
  rereads = 0;
  feed = createFeed(
    createApi({ instanceId: 'me', fetch: server.fetch }),
    'p',
    {
      onChanges: (changes) => got.push(...changes.map(({ seq }) => seq)),
      refetch: async () => {
        rereads += 1;
        got = [];
        return server.log.length;
      },
    },
    {
      now: () => Date.now(),
      random: () => 0.5,
      setTimer: (run, ms) => setTimeout(run, ms) as unknown as number,
      clearTimer: (timer) => clearTimeout(timer),
    },
  );
});

afterEach(() => {
  feed.stop();
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const upTo = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('the feed', () => {
  it('reads the lists once, catches up, and is live', async () => {
    server.write(3);
    feed.start();
    await pass(500);
    expect(rereads).toBe(1);
    expect(server.resumed).toEqual(['e1:3']);
    expect(feed.snapshot()).toMatchObject({
      mode: 'live',
      transport: 'stream',
      cursor: { epoch: 'e1', seq: 3 },
    });
  });

  it('brings every entry once and in order', async () => {
    feed.start();
    await pass(500);
    server.write(5);
    server.say('change', server.log[2], 'e1:3'); // said twice
    await pass(100);
    expect(got).toEqual(upTo(1, 5));
  });

  it('fills a gap from the log instead of stepping over it', async () => {
    feed.start();
    await pass(500);
    server.mute = true;
    server.write(4);
    server.mute = false;
    server.write(1);
    await pass(500);
    expect(got).toEqual(upTo(1, 5));
  });

  it('learns from the beat alone that it is behind', async () => {
    feed.start();
    await pass(500);
    server.mute = true;
    server.write(2);
    server.beat();
    await pass(2_500);
    expect(got).toEqual([1, 2]);
  });

  it('misses nothing over a cut line, and resumes where it stood', async () => {
    feed.start();
    await pass(500);
    server.write(2);
    await pass(50);
    server.cut();
    server.write(2);
    await pass(3_000);
    server.write(1);
    await pass(100);
    expect(got).toEqual(upTo(1, 5));
    expect(server.resumed.length).toBeGreaterThan(1);
    expect(feed.snapshot().mode).toBe('live');
  });

  it('polls where the stream is blocked, holding the line so that results come at once', async () => {
    server.streamUp = false;
    feed.start();
    await pass(5_000);
    expect(feed.snapshot()).toMatchObject({ mode: 'polling', transport: 'poll' });
    const before = server.polls.length;
    await pass(60_000);
    expect(server.polls.length - before).toBeLessThan(25); // held, not hammered
    server.write(1);
    await pass(9_000);
    expect(got).toEqual([1]);
    server.streamUp = true;
    await pass(31_000);
    expect(feed.snapshot().mode).toBe('live');
  });

  it('notices a line that went dead without a word', async () => {
    feed.start();
    await pass(500);
    server.mute = true;
    const lines = server.resumed.length;
    await pass(40_000); // no beat at all
    expect(server.resumed.length).toBeGreaterThan(lines);
    server.write(1);
    await pass(31_000);
    expect(got).toEqual([1]);
  });

  it('reads everything again in another life of the log', async () => {
    feed.start();
    await pass(500);
    server.write(2);
    await pass(50);
    server.rebuild();
    await pass(3_000);
    expect(rereads).toBe(2);
    expect(feed.snapshot()).toMatchObject({ mode: 'live', cursor: { epoch: 'e1x', seq: 2 } });
  });

  it('reads everything again rather than replaying a long absence', async () => {
    feed.start();
    await pass(500);
    server.mute = true;
    server.cut();
    server.write(5_000);
    await pass(3_000);
    expect(rereads).toBe(2);
    expect(feed.snapshot().cursor?.seq).toBe(5_000);
  });

  it('never gives up on a server that is gone, and never hammers it', async () => {
    feed.start();
    await pass(500);
    server.pollUp = false;
    server.streamUp = false;
    server.cut();
    await pass(3_600_000);
    expect(feed.snapshot().mode).toBe('offline');
    server.pollUp = true;
    server.streamUp = true;
    server.write(1);
    await pass(46_000);
    expect(got).toEqual([1]);
    expect(feed.snapshot().mode).toBe('live');
  });

  it('looks at once when somebody comes back', async () => {
    server.streamUp = false;
    feed.start();
    await pass(5_000);
    feed.setVisible(false);
    await pass(25_000);
    server.write(1);
    feed.setVisible(true);
    await pass(300);
    expect(got).toEqual([1]);
  });

  it('gives the line back in a tab nobody looks at, but goes on looking', async () => {
    feed.start();
    await pass(500);
    feed.setVisible(false);
    await pass(25_000);
    expect(feed.snapshot().transport).toBe('poll');
    server.mute = true;
    server.write(1);
    await pass(32_000);
    expect(got).toEqual([1]);
  });

  it("obeys the operator's switches without a reload", async () => {
    feed.start();
    await pass(500);
    feed.configure({ realtime_enabled: false });
    await pass(100);
    expect(feed.snapshot()).toMatchObject({ mode: 'paused', transport: 'poll' });
    server.mute = true;
    server.write(1);
    await pass(9_000);
    expect(got).toEqual([1]);
    feed.configure({ realtime_enabled: true });
    await pass(500);
    expect(feed.snapshot().mode).toBe('live');
  });

  it('makes no request of its own while it is live and fresh', async () => {
    feed.start();
    await pass(9_000);
    const before = server.polls.length;
    for (let i = 0; i < 12; i++) {
      server.beat();
      await pass(5_000);
    }
    expect(server.polls.length - before).toBeLessThanOrEqual(2); // the safety net
  });

  it.each(['beats', 'polls'] as const)(
    'does not storm a log whose %s promise more than it gives',
    async (who) => {
      feed.start();
      await pass(500);
      server.boast = { ...server.boast, [who]: 5 };
      const before = server.polls.length;
      for (let i = 0; i < 12; i++) {
        server.beat();
        await pass(5_000);
      }
      expect(server.polls.length - before).toBeLessThan(40);
      server.boast = { beats: 0, polls: 0 };
      server.write(1);
      await pass(31_000);
      expect(feed.snapshot()).toMatchObject({ mode: 'live', cursor: { seq: 1 } });
    },
  );

  it('does not mistake a slow answer for another life of the log', async () => {
    feed.start();
    await pass(500);
    server.pollDelayMs = 400;
    feed.kick();
    await pass(150);
    server.write(3); // the stream is faster than the answer that is on its way
    await pass(2_000);
    expect(got).toEqual([1, 2, 3]);
    expect(rereads).toBe(1);
    expect(feed.snapshot().mode).toBe('live');
  });

  it('waits for a node whose head lags behind its lists', async () => {
    server.write(3);
    server.boast = { beats: -1, polls: -1 };
    feed.start();
    await pass(600);
    server.boast = { beats: 0, polls: 0 };
    await pass(1_000);
    expect(rereads).toBe(1);
    expect(feed.snapshot()).toMatchObject({ mode: 'live', cursor: { seq: 3 } });
  });

  it('stops for good when it is closed', async () => {
    feed.start();
    await pass(500);
    feed.stop();
    const before = server.polls.length + server.resumed.length;
    await pass(120_000);
    expect(server.polls.length + server.resumed.length).toBe(before);
  });
});
