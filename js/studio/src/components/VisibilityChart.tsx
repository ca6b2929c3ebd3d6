import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useTheme } from '../theme';

interface Figure {
  readonly transport: string;
  readonly ms: number;
  readonly at: number;
}

const HEIGHT = 220;

const duration = (ms: number): string => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`);

/** Time from commit to screen of each result, by the way it came. */
export default function VisibilityChart({ figures }: { readonly figures: readonly Figure[] }) {
  const place = useRef<HTMLDivElement>(null);
  const { shade } = useTheme();
  const count = figures.length;

  // Keeps in step: the drawing with the figures, which only ever grow, and with the theme.
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const ways = [...new Set(figures.map(({ transport }) => transport))];
    const colours = [colour('--green'), colour('--amber'), colour('--accent'), colour('--text-2')];
    const axis = {
      stroke: colour('--text-3'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1 },
      font: '12px "Instrument Sans Variable", sans-serif',
    };
    const data: uPlot.AlignedData = [
      figures.map(({ at }) => at / 1000),
      ...ways.map((way) => figures.map(({ transport, ms }) => (transport === way ? ms : null))),
    ];
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        scales: { y: { range: (_, __, max) => [0, Math.max(100, max * 1.15)] } },
        axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(duration) }],
        series: [
          {},
          ...ways.map((way, index) => ({
            label: way,
            stroke: colours[index % colours.length] ?? '',
            width: 0,
            paths: () => null,
            points: { show: true, size: 6, fill: colours[index % colours.length] ?? '' },
          })),
        ],
      },
      data,
      element,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [figures, count, shade]);

  return <div ref={place} />;
}
