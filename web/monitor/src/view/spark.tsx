/** A worker's CPU over the last minutes, as a line. */

const WIDTH = 64;
const HEIGHT = 22;

export function Spark({ values }: { values: readonly number[] }) {
  if (values.length < 2) return <span class="spark" />;
  const step = WIDTH / (values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - Math.min(1, value) * (HEIGHT - 4)).toFixed(1)}`);
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
      <polyline points={points.join(" ")} />
    </svg>
  );
}
