import { useCredits } from '@safelight/react';
import { credits } from '../words';

const REASONS: Readonly<Record<string, string>> = {
  grant: 'Granted',
  adjust: 'Corrected',
  refund: 'Refunded',
  hold: 'Held for a job',
  capture: 'Charged for a result',
  release: 'Given back',
};

/** These move credits between available and held: the balance is what it was. */
const SETS_ASIDE: ReadonlySet<string> = new Set(['hold', 'release']);

/** What is there, what is held, and every movement with the balance it led to (C3). */
export function CreditsPage() {
  const { wallet, entries } = useCredits();
  return (
    <section className="page">
      <header className="page-head">
        <h1>Credits</h1>
      </header>
      <dl className="figures">
        <div>
          <dt>Available</dt>
          <dd data-testid="available">{wallet ? credits(wallet.available) : '–'}</dd>
        </div>
        <div>
          <dt>Held for running jobs</dt>
          <dd data-testid="held">{wallet ? credits(wallet.held) : '–'}</dd>
        </div>
        <div>
          <dt>Balance</dt>
          <dd>{wallet ? credits(wallet.balance) : '–'}</dd>
        </div>
      </dl>
      <div className="scroll-x">
        <table className="ledger">
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">What</th>
              <th scope="col" className="num">
                Amount
              </th>
              <th scope="col" className="num">
                Balance
              </th>
            </tr>
          </thead>
          <tbody>
            {entries.map((entry) => (
              <tr key={entry.id}>
                <td>
                  <time dateTime={entry.at}>
                    {new Date(entry.at).toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'short' })}
                  </time>
                </td>
                <td>
                  {REASONS[entry.reason] ?? entry.reason}
                  {entry.note && <small> {entry.note}</small>}
                </td>
                <td
                  className="num"
                  data-sign={SETS_ASIDE.has(entry.reason) ? 'aside' : entry.amount < 0 ? 'minus' : 'plus'}
                >
                  {SETS_ASIDE.has(entry.reason)
                    ? `(${credits(Math.abs(entry.amount))})`
                    : `${entry.amount > 0 ? '+' : ''}${credits(entry.amount)}`}
                </td>
                <td className="num">{credits(entry.balance)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
