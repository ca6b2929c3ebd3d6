import { afterEach, describe, expect, it } from 'vitest';
import type { LineHandlers } from '../src/line';
import { createScheduler } from '../src/scheduler';
import {
  createTabs,
  PULSE_MS,
  type Role,
  SILENT_MS,
  shouldLead,
  type TabChannel,
  type Tabs,
} from '../src/tabs';
import { aChange } from './builders';
import { Machine } from './machine';

/** Web Locks and BroadcastChannel of one browser, as the standards have them; what is posted arrives in order. */
class Browser {
  machine = new Machine();
  scheduler = createScheduler(this.machine);
  channels = new Set<TabChannel>();
  holder: { reject: (error: Error) => void } | null = null;
  queue: { grant: () => void; signal: AbortSignal | undefined }[] = [];

  channel = (): TabChannel => {
    const mine: TabChannel = {
      onmessage: null,
      postMessage: (data) => {
        const others = [...this.channels].filter((each) => each !== mine);
        queueMicrotask(() => {
          for (const each of others) each.onmessage?.({ data } as MessageEvent);
        });
      },
      close: () => this.channels.delete(mine),
    };
    this.channels.add(mine);
    return mine;
  };

  locks = {
    request: (_name: string, options: LockOptions, hold: () => Promise<void>): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const grant = (): void => {
          const mine = { reject };
          this.holder = mine;
          hold().then((value) => {
            if (this.holder === mine) this.#next();
            resolve(value);
          });
        };
        options.signal?.addEventListener('abort', () => {
          this.queue = this.queue.filter((each) => each.signal !== options.signal);
          reject(new Error('AbortError'));
        });
        if (options.steal) {
          this.holder?.reject(new Error('AbortError'));
          grant();
        } else if (this.holder === null) grant();
        else this.queue.push({ grant, signal: options.signal });
      }),
  } as unknown as Pick<LockManager, 'request'>;

  #next(): void {
    this.holder = null;
    this.queue.shift()?.grant();
  }

  open(id: string, visible = true) {
    const roles: Role[] = [];
    const kicks: string[] = [];
    const isVisible = { now: visible };
    const pulse = () => ({
      mode: 'live' as const,
      epoch: 'e',
      head: 3,
      proofAgeMs: 0,
      visible: isVisible.now,
    });
    const tabs: Tabs = createTabs('x', id, { locks: this.locks, channel: this.channel }, this.scheduler, {
      onRole: (role) => roles.push(role),
      pulse,
      onKick: () => kicks.push('kick'),
      onRecover: () => kicks.push('recover'),
    });
    tabs.setVisible(visible);
    tabs.start();
    const show = (next: boolean): void => {
      isVisible.now = next;
      tabs.setVisible(next);
    };
    return { tabs, roles, kicks, show };
  }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

let browser: Browser;
const pass = async (ms: number): Promise<void> => {
  for (let spent = 0; spent < ms; spent += 500) {
    browser.machine.pass(500);
    await settle();
  }
};
afterEach(() => browser.scheduler.stop());

function hearing(tabs: Tabs) {
  const heard: unknown[] = [];
  const note =
    (name: string) =>
    (...args: unknown[]) => {
      heard.push([name, ...args]);
    };
  const on = Object.fromEntries(
    ['opened', 'heard', 'changes', 'head', 'progress', 'lost', 'configured', 'closed'].map((name) => [
      name,
      note(name),
    ]),
  ) as unknown as LineHandlers;
  const line = tabs.line.open({ epoch: 'e', seq: 1 }, on);
  return { heard, line };
}

describe('many tabs (F7)', () => {
  it('have one leader, and the others hear through it', async () => {
    browser = new Browser();
    const first = browser.open('1');
    await settle();
    const second = browser.open('2');
    await settle();
    expect([first.tabs.role(), second.tabs.role()]).toEqual(['leader', 'follower']);
    const { heard } = hearing(second.tabs);
    await settle();
    expect(heard.slice(0, 3)).toEqual([['opened'], ['heard'], ['head', 'e', 3]]);
    const entry = aChange(4, { id: 'g' });
    first.tabs.say({ t: 'changes', epoch: 'e', entries: [entry] });
    await settle();
    expect(heard.at(-1)).toEqual(['changes', 'e', [entry]]);
  });

  it('are followed up by another when the leader closes, twenty times in a row', async () => {
    browser = new Browser();
    const all = Array.from({ length: 21 }, (_, i) => browser.open(String(i)));
    await settle();
    for (let i = 0; i < 20; i++) {
      const leaders = all.filter(({ tabs }) => tabs.role() === 'leader');
      expect(leaders).toHaveLength(1);
      const [leader] = leaders;
      if (leader) all.splice(all.indexOf(leader), 1);
      leader?.tabs.stop();
      await settle();
    }
    expect(all.map(({ tabs }) => tabs.role())).toEqual(['leader']);
  });

  it('are led by one that somebody looks at', async () => {
    browser = new Browser();
    const first = browser.open('1');
    await settle();
    const second = browser.open('2', false);
    await settle();
    first.show(false);
    second.show(true);
    await settle();
    expect([first.tabs.role(), second.tabs.role()]).toEqual(['follower', 'leader']);
    await pass(PULSE_MS * 3);
    expect([first.tabs.role(), second.tabs.role()]).toEqual(['follower', 'leader']);
  });

  it('do not wait for a leader that is frozen with the lock in its hand', async () => {
    browser = new Browser();
    const first = browser.open('1');
    await settle();
    const second = browser.open('2');
    await settle();
    const frozen = [...browser.channels][0];
    if (frozen) {
      frozen.postMessage = () => undefined;
      frozen.onmessage = null;
    }
    await pass(SILENT_MS + PULSE_MS + 1_000);
    expect(second.tabs.role()).toBe('leader');
    expect(first.tabs.role()).toBe('follower'); // when it thaws, it knows
  });

  it('pass a kick on to the leader, and nothing else of a follower', async () => {
    browser = new Browser();
    const first = browser.open('1');
    await settle();
    const [second, third] = [browser.open('2'), browser.open('3')];
    await settle();
    const { heard } = hearing(third.tabs);
    await settle();
    const before = heard.length;
    second.tabs.say({ t: 'kick', from: '2' });
    second.tabs.say({ t: 'head', epoch: 'e', head: 99 });
    await settle();
    expect(first.kicks).toEqual(['kick']);
    expect(heard).toHaveLength(before);
  });

  it('are each for themselves without locks', () => {
    browser = new Browser();
    const roles: Role[] = [];
    const tabs = createTabs('x', '1', { locks: undefined, channel: browser.channel }, browser.scheduler, {
      onRole: (role) => roles.push(role),
      pulse: () => ({ mode: 'live', epoch: null, head: null, proofAgeMs: null, visible: true }),
      onKick: () => undefined,
      onRecover: () => undefined,
    });
    tabs.start();
    expect(tabs.role()).toBe('alone');
  });

  it.each([
    [{ visible: true, silentMs: 1_000, leaderVisible: true }, false],
    [{ visible: true, silentMs: 1_000, leaderVisible: null }, false],
    [{ visible: true, silentMs: 1_000, leaderVisible: false }, true],
    [{ visible: true, silentMs: 13_000, leaderVisible: null }, true],
    [{ visible: false, silentMs: 13_000, leaderVisible: false }, false],
    [{ visible: false, silentMs: 46_000, leaderVisible: null }, true],
  ])('judge %j', (standing, takes) => {
    expect(shouldLead(standing)).toBe(takes);
  });
});
