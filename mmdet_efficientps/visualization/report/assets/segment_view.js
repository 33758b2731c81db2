// An image with its segments: what is under the pointer is told, classes and outlines
// are switched, all of it in the browser.

const whole = (number) => Math.round(number).toLocaleString('en');

/** What a segment is: its class, its score and its area. */
const describe = (segment, record) => {
  const { name, isthing } = record.classes[segment.label];
  const score = segment.score == null ? null : segment.score.toFixed(2);
  const share = `${percent(segment.area / (record.width * record.height))} %`;
  const said = score || (isthing ? 'not known' : 'none, it is stuff');
  return { name, score, share, facts: [`Score: ${said}`, `Area: ${whole(segment.area)} pixels, ${share}`] };
};

class SegmentView {
  constructor(root) {
    this.root = root;
    this.root.className = 'segment-view';
    this.hidden = new Set();
    this.outlines = true;
    this.opacity = 0.55;
    this.serial = 0;
    this.show(null);
  }

  /** Show a record: nothing yet, a problem in words, a video, or an image. */
  async show(record) {
    const serial = ++this.serial;
    if (!record) {
      this.record = null;
      this.root.replaceChildren(el('div', { class: 'view-empty' },
        'The result is shown here: drop an image or a short video above.'));
    } else if (record.problem) {
      this.record = null;
      this.root.replaceChildren(el('div', { class: 'view-problem', role: 'alert' }, record.problem));
    } else if (record.video) {
      this.record = null;
      this.root.replaceChildren(this.head(record),
        el('video', { src: record.video, controls: true, loop: true, playsinline: true, muted: true }),
        this.downloads(record));
    } else {
      // Rows of numbers of segments, 0 is void. Not a picture: browsers that protect
      // from fingerprinting change pixels that are read back.
      let index;
      try {
        const answer = await fetch(record.map);
        if (!answer.ok) throw new Error(answer.statusText);
        index = new Uint16Array(await answer.arrayBuffer());
      } catch (error) {
        if (serial === this.serial) {
          this.show({ problem: 'The result cannot be fetched: the server has stopped, or no longer keeps it. Drop the image again.' });
        }
        return;
      }
      // A newer result may have come meanwhile.
      if (serial === this.serial) this.showSegments(record, index);
    }
  }

  showSegments(record, index) {
    const isOther = !this.record || this.record.photo !== record.photo;
    this.record = record;
    this.index = index;
    this.findEdges();
    this.chosen = 0;
    if (isOther) this.build();
    this.controls.replaceChildren(...this.makeControls());
    this.paint();
    this.mark(0);
    this.tip.hidden = true;
    this.tip.replaceChildren('Tap on a segment to see what it is.');
  }

  head(record) {
    return el('div', {}, el('div', { class: 'view-head' },
      el('span', { class: 'view-name' }, record.name), el('span', { class: 'muted' }, record.facts)),
    record.notes.length ? el('ul', { class: 'notes' }, record.notes.map((note) => el('li', {}, note))) : null);
  }

  downloads(record) {
    return el('div', { class: 'view-bar' }, 'Download', record.downloads.map(({ label, address, file }) => (
      el('a', { class: 'plain', href: address, download: file }, label))));
  }

  build() {
    const [width, height] = this.record.map_size;
    const layer = (name) => el('canvas', { class: name, width, height });
    this.overlay = layer('view-overlay');
    this.marker = layer('view-marker');
    this.tip = el('div', { class: 'view-tip', hidden: true });
    this.stage = el('div', {
      class: 'view-stage',
      style: `aspect-ratio: ${width} / ${height}; max-width: calc(75vh * ${width / height})`,
      onpointermove: (event) => this.point(event),
      onpointerdown: (event) => this.point(event),
      // A finger that is lifted leaves, too; what it chose stays.
      onpointerleave: (event) => { if (event.pointerType === 'mouse') this.leave(); },
    }, el('img', { src: this.record.photo, alt: `Photograph ${this.record.name}` }),
    this.overlay, this.marker);
    this.controls = el('div', { class: 'view-controls' });
    this.root.replaceChildren(el('div', { class: 'view-frame' }, this.stage, this.tip), this.controls);
  }

  makeControls() {
    const { record } = this;
    const counts = new Map();
    record.segments.forEach(({ label }) => counts.set(label, (counts.get(label) || 0) + 1));
    const boxes = [...counts].sort(([a], [b]) => a - b).map(([label, count]) => {
      const { name, color, isthing } = record.classes[label];
      return el('label', {}, el('input', {
        type: 'checkbox', checked: !this.hidden.has(name), 'data-class': name,
        onchange: (event) => { this.hidden[event.target.checked ? 'delete' : 'add'](name); this.paint(); },
      }), swatch(color), isthing ? `${name} (${count})` : name);
    });
    const all = (isShown) => () => {
      this.hidden = new Set(isShown ? [] : record.classes.map(({ name }) => name));
      boxes.forEach((box) => { box.firstChild.checked = isShown; });
      this.paint();
    };
    this.rows = record.segments.map((segment, k) => {
      const { name, score, share } = describe(segment, record);
      return el('button', {
        type: 'button',
        'aria-pressed': 'false',
        onmouseenter: () => this.mark(k + 1),
        onmouseleave: () => this.mark(this.chosen),
        onfocus: () => this.mark(k + 1),
        onclick: () => { this.chosen = this.chosen === k + 1 ? 0 : k + 1; this.mark(this.chosen); },
      }, swatch(segment.color), el('span', { class: 'grow' }, name),
      el('span', {}, score), el('span', { class: 'share' }, share));
    });
    return [
      this.head(record),
      this.downloads(record),
      el('div', { class: 'view-bar' },
        el('label', {}, el('input', {
          type: 'checkbox', class: 'view-outlines', checked: this.outlines,
          onchange: (event) => { this.outlines = event.target.checked; this.paint(); },
        }), 'Outlines'),
        el('label', {}, 'Opacity', el('input', {
          type: 'range', min: 0, max: 1, step: 0.05, value: this.opacity,
          oninput: (event) => { this.opacity = Number(event.target.value); this.paint(); },
        })),
        el('button', { type: 'button', class: 'plain', onclick: all(true) }, 'All classes'),
        el('button', { type: 'button', class: 'plain', onclick: all(false) }, 'None')),
      el('div', { class: 'view-classes' }, boxes),
      el('div', {}, el('h3', {}, `${record.segments.length} segments: score and share of the area`),
        el('div', { class: 'view-list' }, this.listed())),
    ];
  }

  /** The rows in order: things before stuff, large ones first. */
  listed() {
    const { segments, classes } = this.record;
    return segments.map((segment, k) => ({ segment, row: this.rows[k] })).sort((a, b) => (
      classes[b.segment.label].isthing - classes[a.segment.label].isthing
      || b.segment.area - a.segment.area)).map(({ row }) => row);
  }

  /** Pixels that touch another segment, sides and corners. */
  findEdges() {
    const { index } = this;
    const [width, height] = this.record.map_size;
    this.edges = new Uint8Array(index.length);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const at = y * width + x;
        const own = index[at];
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v += 1) {
          const row = v * width;
          if (index[row + Math.max(x - 1, 0)] !== own || index[row + x] !== own
            || index[row + Math.min(x + 1, width - 1)] !== own) this.edges[at] = 1;
        }
      }
    }
  }

  /** Color the classes that are switched on; void is darkened. */
  paint() {
    const { record, index, edges } = this;
    const alpha = Math.round(255 * this.opacity);
    const context = this.overlay.getContext('2d');
    const picture = context.createImageData(this.overlay.width, this.overlay.height);
    const pixels = new Uint32Array(picture.data.buffer);
    const rgba = ([r, g, b], a) => new Uint32Array(new Uint8Array([r, g, b, a]).buffer)[0];
    const white = rgba([255, 255, 255], 255);
    const fill = [rgba([0, 0, 0], alpha)];
    const outlined = [false];
    record.segments.forEach(({ label, color }) => {
      const isShown = !this.hidden.has(record.classes[label].name);
      fill.push(isShown ? rgba(color, alpha) : 0);
      outlined.push(isShown && this.outlines && record.classes[label].isthing);
    });
    for (let k = 0; k < index.length; k += 1) {
      pixels[k] = edges[k] && outlined[index[k]] ? white : fill[index[k]];
    }
    context.putImageData(picture, 0, 0);
  }

  /** Lift a segment out of the others; 0 for none. */
  mark(number) {
    if (number === this.marked && this.markedIn === this.index) return;
    this.marked = number;
    this.markedIn = this.index;
    const context = this.marker.getContext('2d');
    const { width, height } = this.marker;
    context.clearRect(0, 0, width, height);
    this.rows.forEach((row, k) => row.setAttribute('aria-pressed', String(number === k + 1)));
    if (!number) return;
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const [light, rim] = [[255, 255, 255, 70], [255, 220, 0, 255]].map(
      (color) => new Uint32Array(new Uint8Array(color).buffer)[0]);
    for (let k = 0; k < pixels.length; k += 1) {
      if (this.index[k] === number) pixels[k] = this.edges[k] ? rim : light;
    }
    context.putImageData(picture, 0, 0);
  }

  /** Tell what is under the mouse or was touched. */
  point(event) {
    const frame = this.stage.getBoundingClientRect();
    const { width, height } = this.overlay;
    const [left, top] = [event.clientX - frame.left, event.clientY - frame.top];
    const x = Math.min(Math.max(Math.floor(left * width / frame.width), 0), width - 1);
    const y = Math.min(Math.max(Math.floor(top * height / frame.height), 0), height - 1);
    const number = this.index[y * width + x];
    if (event.type === 'pointerdown') this.chosen = number;
    this.mark(number);
    const segment = this.record.segments[number - 1];
    const { name, facts } = segment ? describe(segment, this.record)
      : { name: 'void', facts: ['Nothing was predicted here'] };
    this.tip.replaceChildren(el('strong', {}, name), ...facts.map((fact) => el('div', {}, fact)));
    this.tip.hidden = false;
    // Beside the pointer, on the side where there is room.
    const { offsetWidth, offsetHeight } = this.tip;
    const place = (at, size, room) => Math.max(0, at + 14 + size <= room ? at + 14 : at - 14 - size);
    const [across, down] = [place(left, offsetWidth, frame.width), place(top, offsetHeight, frame.height)];
    this.tip.style.left = `${this.stage.offsetLeft + across}px`;
    this.tip.style.top = `${down}px`;
  }

  leave() {
    this.tip.hidden = true;
    this.mark(this.chosen);
  }
}
