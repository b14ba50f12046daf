// A race in numbers, as player.py sends them: what is to be seen at any moment.
// Reads: what it is given. Writes: nothing.

function decoded(text, kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new kind(bytes.buffer);
}

class Race {
  constructor(data) {
    Object.assign(this, data);
    this.count = data.names.length;
    this.filled = decoded(data.filled, Float64Array);
    this.ranks = decoded(data.places, Uint16Array);
    this.seen = data.presence ? decoded(data.presence, Uint8Array) : null;  // none: everybody is there from the beginning
    const digits = { minimumFractionDigits: data.axis.decimals, maximumFractionDigits: data.axis.decimals };
    this.digits = new Intl.NumberFormat("en-US", { ...digits, roundingMode: "halfEven" });
  }

  along(value) { return (value - this.axis.low) / (this.axis.high - this.axis.low); }
  share(value) { return Math.min(1, Math.max(0, this.along(value))); }
  valueText(value) { return this.digits.format(value) + this.axis.unit; }
  own(row, racer) { return this.filled[row * this.count + racer]; }

  // What is to be seen at a frame, also between two: every racer with its value, place, presence, and whether it has ended.
  moment(frame) {
    const before = Math.min(Math.floor(frame), this.frames - 1), after = Math.min(before + 1, this.frames - 1);
    const at = this.frames > 1 ? frame / this.steps : this.epochs.length - 1;
    const row = Math.min(Math.floor(at), Math.max(0, this.epochs.length - 2)), share = at - row;
    const last = Math.min(Math.floor(at), this.epochs.length - 1), racers = [];
    for (let i = 0; i < this.count; i++) {
      const here = this.own(row, i), next = this.own(Math.min(row + 1, this.epochs.length - 1), i);
      const value = share === 0 ? here : share === 1 ? next : here + (next - here) * share;
      const from = before * this.count + i, to = after * this.count + i, gone = frame - before;
      const mixed = (numbers, unit) => (numbers[from] + (numbers[to] - numbers[from]) * gone) / unit;
      const over = this.ended[i] !== null && this.epochs[last] >= this.ended[i];
      const presence = Number.isNaN(value) ? 0 : this.seen ? mixed(this.seen, 255) : 1;
      racers.push({ i, value, place: mixed(this.ranks, 1000), presence, over });
    }
    return { at, epoch: this.epochs[last], racers };
  }
}

const epochText = (epoch) => "epoch " + (Number.isInteger(epoch) ? epoch.toLocaleString("en-US") : String(+epoch.toPrecision(6)));
const endedText = (epoch, short) => short ? "until " + epochText(epoch).replace("epoch ", "") : "ended at " + epochText(epoch);

// Returns the nearest row that never falls (least squares): neighbours in the wrong order get their mean.
function rising(values) {
  const blocks = [];
  for (const value of values) {
    let block = [value, 1];
    while (blocks.length && blocks.at(-1)[0] / blocks.at(-1)[1] > block[0] / block[1]) {
      const before = blocks.pop();
      block = [block[0] + before[0], block[1] + before[1]];
    }
    blocks.push(block);
  }
  return blocks.flatMap(([total, size]) => Array(size).fill(total / size));
}

// Returns rows as near to those wanted (rising) as can be, a gap from each other, within top and foot if they fit.
function apart(wanted, gap, top, foot) {
  const n = wanted.length;
  return rising(wanted.map((y, k) => y - k * gap))
    .map((y, k) => Math.max(top + k * gap, Math.min(y + k * gap, foot - (n - 1 - k) * gap)));
}
