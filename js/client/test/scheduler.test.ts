import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createScheduler } from '../src/scheduler';
import { Machine } from './machine';

describe('the one scheduler', () => {
  it('keeps one timer of the machine, whatever waits', () => {
    const machine = new Machine();
    const scheduler = createScheduler(machine);
    for (const ms of [500, 20, 9_000]) scheduler.after('x', ms, () => undefined);
    scheduler.every('beat', 100, () => undefined);
    expect(machine.timers.size).toBe(1);
    machine.pass(250);
    expect(machine.timers.size).toBe(1);
    scheduler.stop();
    expect(machine.timers.size).toBe(0);
  });

  it('runs each thing once, at its time and in order, and nothing that was taken back', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ ms: fc.nat(5_000), cancel: fc.boolean() }), { maxLength: 40 }),
        (waits) => {
          const machine = new Machine();
          const scheduler = createScheduler(machine);
          const ran: [number, number][] = [];
          const start = machine.time;
          waits.forEach(({ ms, cancel }, index) => {
            const id = scheduler.setTimer(() => ran.push([index, machine.time - start]), ms);
            if (cancel) scheduler.clearTimer(id);
          });
          machine.pass(6_000);
          const expected = waits.filter(({ cancel }) => !cancel);
          expect(ran).toHaveLength(expected.length);
          for (const [index, at] of ran) expect(at).toBe(waits[index]?.ms);
          expect(ran.map(([, at]) => at)).toEqual([...ran.map(([, at]) => at)].sort((a, b) => a - b));
        },
      ),
    );
  });

  it('ends for good: nobody is woken, and nothing begins', async () => {
    const machine = new Machine();
    const scheduler = createScheduler(machine);
    const ran: string[] = [];
    scheduler.after('late', 10, () => ran.push('late'));
    void scheduler.sleep(50).then(() => ran.push('woken'));
    scheduler.stop();
    scheduler.after('new', 10, () => ran.push('new'));
    machine.pass(100_000);
    await Promise.resolve();
    expect(ran).toEqual([]);
    expect(machine.timers.size).toBe(0);
  });

  it('says what waits, soonest first', () => {
    const scheduler = createScheduler(new Machine());
    scheduler.after('config', 900, () => undefined);
    scheduler.after('poll', 100, () => undefined);
    expect(scheduler.pending().map(({ name }) => name)).toEqual(['poll', 'config']);
  });

  it('lets what runs set and clear what else is due at that moment', () => {
    const machine = new Machine();
    const scheduler = createScheduler(machine);
    const ran: string[] = [];
    let second = 0;
    scheduler.after('first', 10, () => {
      ran.push('first');
      scheduler.clearTimer(second);
      scheduler.after('third', 0, () => ran.push('third'));
    });
    second = scheduler.after('second', 10, () => ran.push('second'));
    machine.pass(20);
    expect(ran).toEqual(['first', 'third']);
  });
});
