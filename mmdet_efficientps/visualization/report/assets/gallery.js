// The gallery of images with a slider between their views, sorted and filtered.

const data = JSON.parse(document.getElementById('page-data').textContent);
const page = document.getElementById('page');

function head() {
  document.title = data.title;
  page.replaceChildren(
    el('h1', {}, data.title), el('p', { class: 'subtitle' }, data.subtitle));
}

function section(id, title, text, ...content) {
  const element = el('section', { id, 'aria-labelledby': `${id}-title` },
    el('header', {}, el('h2', { id: `${id}-title` }, title), el('p', {}, text)), content);
  page.append(element);
  return element;
}

/** One image: its views on top of each other, and the slider between them. */
class Card {
  constructor(record, gallery) {
    this.record = record;
    this.gallery = gallery;
    const { views } = data.gallery;
    const [width, height] = record.size;
    this.layers = views.map(({ label }) => el('img', { alt: `${label} of ${record.name}`, decoding: 'async' }));
    this.divider = el('span', { class: 'divider' });
    this.stage = el('button', {
      type: 'button', class: 'stage', style: `aspect-ratio: ${width} / ${height}`,
      'aria-label': `Enlarge ${record.name}`, onclick: () => gallery.enlarge(record),
    }, this.layers, this.divider);
    this.slider = el('input', {
      type: 'range', min: 0, max: views.length - 1, step: 0.01, value: 0,
      'aria-label': `View of ${record.name}`,
      oninput: () => this.show(Number(this.slider.value)),
      onkeydown: (event) => this.step(event),
    });
    this.stops = views.map(({ label }, k) => el('button', {
      type: 'button', onclick: () => this.show(k), tabindex: -1,
      // Below the place of the thumb, which is 16 pixels wide.
      style: `left: calc(8px + (100% - 16px) * ${k / (views.length - 1)})`,
    }, label));
    this.facts = el('div', { class: 'facts' });
    this.element = el('figure', { class: 'card' }, this.stage,
      el('div', { class: 'view-slider' }, this.slider, el('div', { class: 'stops' }, this.stops)),
      el('figcaption', {}, el('span', { class: 'name' }, record.name), this.facts,
        record.notes.length ? el('ul', { class: 'notes' }, record.notes.map((note) => el('li', {}, note))) : null));
    this.element.card = this;
  }

  /** Decode the pictures: called when the card comes near the window. */
  load() {
    if (this.layers[0].src) return;
    data.gallery.views.forEach(({ key }, k) => {
      const text = document.getElementById(`picture-${this.record.number}-${key}`).textContent;
      this.layers[k].src = `data:image/webp;base64,${text}`;
    });
  }

  /** Show view `at`; between two whole numbers the next view covers the left part. */
  show(at) {
    this.at = at;
    const share = (value) => Math.min(Math.max(value, 0), 1) * 100;
    this.layers.forEach((layer, k) => {
      // The image itself stays below the others, which are translucent.
      if (k === 0) return;
      const [left, right] = [share(at - k), 100 - share(at - k + 1)];
      layer.style.visibility = left + right >= 100 ? 'hidden' : 'visible';
      layer.style.clipPath = `inset(0 ${right}% 0 ${left}%)`;
    });
    const split = at % 1;
    this.divider.hidden = split === 0;
    this.divider.style.left = `${100 * split}%`;
    this.slider.value = at;
    const { views } = data.gallery;
    const next = views[Math.ceil(at)].label;
    this.slider.setAttribute('aria-valuetext',
      split ? `${next} left, ${views[Math.floor(at)].label} right` : next);
    this.stops.forEach((stop, k) => stop.setAttribute('aria-pressed', k === at));
  }

  /** Arrow keys go to the neighbouring view, with Shift a tenth of the way. */
  step(event) {
    const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    let next = Math.round(10 * this.at + direction) / 10;
    if (!event.shiftKey) {
      next = direction > 0 ? Math.floor(this.at) + 1 : Math.ceil(this.at) - 1;
    }
    this.show(Math.min(Math.max(next, 0), this.layers.length - 1));
  }

  /** Write the numbers of the chosen class, or of the whole image. */
  describe(label) {
    const values = valuesOf(this.record, label);
    this.facts.replaceChildren(...data.gallery.values
      .filter(({ key }) => values[key] != null)
      .map(({ key, label: name, share }) => el('span', {},
        `${name} ${share ? `${percent(values[key])} %` : values[key]}`)));
  }
}

const valuesOf = (record, label) => (
  label === '' ? record.values : { ...record.values, ...record.classes[label] });

class Gallery {
  /** `details` gives the lines of text to be shown below an enlarged image. */
  constructor(container, details = () => []) {
    this.details = details;
    const { values, filters, views } = data.gallery;
    this.label = '';
    this.only = '';
    this.pair = null;
    this.view = 0;
    this.order = data.gallery.order;
    this.cards = data.records.map((record, number) => new Card({ number, ...record }, this));
    this.grid = el('div', { class: 'cards' });
    this.status = el('div', { class: 'status', role: 'status' });
    const classes = data.classes.map(({ name }, k) => ({ value: k, label: name }))
      .filter(({ value }) => data.records.some((r) => value in r.classes))
      .sort((a, b) => a.label.localeCompare(b.label));
    const orders = values.flatMap(({ key, label }) => [
      { value: `${key}:1`, label: `${label}, lowest first` },
      { value: `${key}:-1`, label: `${label}, highest first` }]);
    orders.push({ value: 'name:1', label: 'Name' });
    // The first of the list is the one in force when the page opens.
    orders.sort((a, b) => (b.value === this.order) - (a.value === this.order));
    const update = (field) => (value) => { this[field] = value; this.refresh(); };
    container.append(...[
      el('div', { class: 'toolbar' }, el('div', { class: 'controls' },
        select('Sort by', 'sort', orders, update('order')),
        select('Class', 'class', [{ value: '', label: 'All classes' }, ...classes], update('label')),
        select('Show', 'only', [{ value: '', label: 'All images' },
          ...filters.map(({ key, label }) => ({ value: key, label }))], update('only')),
        choice('View of all images', 'view', views.map(({ label }, k) => ({ value: k, label })),
          (k) => { this.view = k; this.cards.forEach((card) => card.show(k)); }))),
      data.gallery.legend.length ? el('div', { class: 'keys', style: 'margin-top: 10px' },
        data.gallery.legend.map(({ color, label }) => el('span', {},
          el('span', { class: 'key area', style: `background: rgb(${color.join(' ')})` }), label))) : null,
      el('details', { class: 'colors' }, el('summary', {}, 'Colors of the classes'),
        el('ul', {}, data.classes.map(({ name, color }) => el('li', {}, swatch(color), name)))),
      this.status, this.grid,
    ].filter((part) => part));
    this.observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) target.card.load();
      }
    }, { rootMargin: '600px' });
    this.cards.forEach((card) => { card.show(0); this.observer.observe(card.element); });
    this.makeDialog(container);
    this.refresh();
  }

  /** Show only images with one kind of error; `text` says which. */
  filterPair(key, text) {
    this.pair = { key, text };
    this.refresh();
    this.status.scrollIntoView({ block: 'center' });
  }

  refresh() {
    const [key, sign] = this.order.split(':');
    const value = ({ record }) => (
      key in record ? record[key] : valuesOf(record, this.label)[key]);
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      // Images without a value come last in either direction.
      if (x == null || y == null) return (x == null) - (y == null);
      const order = typeof x === 'string' ? x.localeCompare(y) : x - y;
      return Number(sign) * order || a.record.number - b.record.number;
    };
    this.shown = this.cards.filter(({ record }) => (
      (this.label === '' || this.label in record.classes)
      && (this.only === '' || valuesOf(record, this.label)[this.only] > 0)
      && (!this.pair || this.pair.key in record.errors))).sort(compare);
    this.shown.forEach((card) => card.describe(this.label));
    this.grid.replaceChildren(...this.shown.map((card) => card.element));
    this.status.replaceChildren(
      el('span', { id: 'count' }, `${this.shown.length} of ${this.cards.length} images`));
    if (this.pair) {
      this.status.append(el('button', {
        type: 'button', class: 'plain', id: 'clear-pair',
        onclick: () => { this.pair = null; this.refresh(); },
      }, `${this.pair.text} \u2715`));
    }
  }

  makeDialog(container) {
    const move = (step) => () => this.enlarge(this.shown[this.position + step].record);
    this.previous = el('button', { type: 'button', class: 'plain', onclick: move(-1) }, '\u2039 Previous');
    this.next = el('button', { type: 'button', class: 'plain', onclick: move(1) }, 'Next \u203a');
    this.place = el('span', { class: 'muted grow' });
    this.body = el('div');
    this.dialog = el('dialog', { 'aria-label': 'Enlarged image' },
      el('div', { class: 'dialog-bar' }, this.previous, this.next, this.place,
        el('button', { type: 'button', class: 'plain', onclick: () => this.dialog.close() }, 'Close')),
      this.body);
    container.append(this.dialog);
  }

  enlarge(record) {
    this.position = this.shown.findIndex((card) => card.record === record);
    const small = this.shown[this.position];
    const large = new Card(record, this);
    large.load();
    large.show(small.at);
    large.describe(this.label);
    const [width, height] = record.size;
    large.stage.style.maxWidth = `calc(68vh * ${width / height})`;
    large.stage.disabled = true;
    this.body.replaceChildren(large.element, el('ul', { class: 'notes columns' },
      this.details(record).map((line) => el('li', {}, line))));
    this.place.textContent = `${this.position + 1} of ${this.shown.length}`;
    this.previous.disabled = this.position === 0;
    this.next.disabled = this.position === this.shown.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    large.slider.focus();
  }
}
