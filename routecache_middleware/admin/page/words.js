// Numbers as people read them, and the layers' names.

export const LAYERS = [
  ["result", "answers"],
  ["route", "decisions"],
  ["meta", "metadata"],
  ["load", "load"],
];

const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const PLAIN = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(value) {
  return Math.abs(value) < 100_000 ? PLAIN.format(value) : SHORT.format(value);
}

export function percent(share) {
  if (share == null) return "–";
  return `${PLAIN.format(share * 100)}%`;
}

export function many(value, one, more) {
  return `${count(value)} ${value === 1 ? one : more}`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) {
    value /= 1024;
    place += 1;
  }
  return `${PLAIN.format(value)} ${units[place]}`;
}

export function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${PLAIN.format(value * 1e6)} µs`;
  if (size < 1) return `${PLAIN.format(value * 1e3)} ms`;
  if (size < 120) return `${PLAIN.format(value)} s`;
  if (size < 7_200) return `${PLAIN.format(value / 60)} min`;
  if (size < 172_800) return `${PLAIN.format(value / 3_600)} h`;
  return `${PLAIN.format(value / 86_400)} d`;
}

export function dollars(value) {
  const digits = value !== 0 && Math.abs(value) < 1 ? 4 : 2;
  return `$${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}
