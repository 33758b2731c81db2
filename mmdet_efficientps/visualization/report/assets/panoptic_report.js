// The report of a test run: tables, bars, confusion between classes, gallery.

const NUMBERS = [
  { key: 'pq', label: 'PQ', format: percent },
  { key: 'sq', label: 'SQ', format: percent },
  { key: 'rq', label: 'RQ', format: percent },
  { key: 'tp', label: 'Matched', format: String },
  { key: 'fp', label: 'False', format: String },
  { key: 'fn', label: 'Missed', format: String },
];

/** SQ above RQ as bars of 0 to 100 %, and a mark at their product, PQ. */
function bars({ pq, sq, rq }) {
  if (pq == null) return el('div', { class: 'bars' });
  const width = (value) => `width: ${100 * value}%`;
  return el('div', {
    class: 'bars', role: 'img',
    'aria-label': `SQ ${percent(sq)}, RQ ${percent(rq)}, PQ ${percent(pq)}`,
  },
  el('div', { class: 'bar sq', style: width(sq) }),
  el('div', { class: 'bar rq', style: width(rq) }),
  el('span', { class: 'mark', style: `left: ${100 * pq}%` }));
}

const barKeys = () => el('span', { class: 'keys' },
  [['sq', 'SQ'], ['rq', 'RQ'], ['pq', 'PQ = SQ \u00d7 RQ']].map(([key, label]) => (
    el('span', {}, el('span', { class: `key ${key}` }), label))));

/** A row of a table of quality: first cell, bars, numbers, further cells. */
const qualityRow = (first, row, ...more) => el('tr', {},
  el('th', { scope: 'row' }, first),
  el('td', { class: 'bars-cell' }, bars(row)),
  NUMBERS.map(({ key, format }) => el('td', {}, format(row[key]))), more);

function tiles() {
  page.append(el('div', { class: 'tiles' }, data.groups.map((group) => (
    el('div', { class: 'tile' },
      el('div', { class: 'name' }, group.title),
      el('div', { class: 'value' }, el('small', {}, 'PQ '), percent(group.pq)),
      el('div', { class: 'parts muted' },
        `SQ ${percent(group.sq)} \u00b7 RQ ${percent(group.rq)} \u00b7 ${group.n} classes`))))));
}

function classTable() {
  const columns = [
    { key: 'name', label: 'Class' }, { label: barKeys() }, ...NUMBERS,
    ...data.extra_columns.map((name) => ({ key: name, label: name })),
  ];
  const extra = (row) => data.extra_columns.map((name) => el('td', {},
    row[name] == null ? '\u2013' : row[name].toFixed(1)));
  const body = el('tbody');
  const headers = columns.map(({ key, label }) => (key
    ? el('th', { scope: 'col' }, el('button', { type: 'button', onclick: () => sort(key) }, label))
    : el('th', { scope: 'col', class: 'text' }, label)));

  function sort(key) {
    const header = headers[columns.findIndex((column) => column.key === key)];
    // Names start at A, numbers at the largest; a second click turns the order.
    let direction = header.getAttribute('aria-sort');
    if (direction) direction = direction === 'ascending' ? 'descending' : 'ascending';
    else direction = key === 'name' ? 'ascending' : 'descending';
    headers.forEach((other) => other.removeAttribute('aria-sort'));
    header.setAttribute('aria-sort', direction);
    const sign = direction === 'ascending' ? 1 : -1;
    const rows = [...data.classes].sort((a, b) => {
      const [x, y] = [a[key], b[key]];
      if (x == null || y == null) return (x == null) - (y == null);
      return sign * (typeof x === 'string' ? x.localeCompare(y) : x - y);
    });
    body.replaceChildren(...rows.map((row) => qualityRow([swatch(row.color), row.name], row, extra(row))));
  }

  section('classes', 'Quality',
    'In percent. SQ is the mean overlap (IoU) of the segments that were found, RQ how many were found: '
    + 'a long blue bar over a short orange one is a class that is drawn well when it is found. '
    + 'Click a heading to sort.',
    el('div', { class: 'scroll' }, el('table', { class: 'wide', id: 'class-table' },
      el('thead', {}, el('tr', {}, headers)),
      el('tbody', { class: 'groups' }, data.groups.map((row) => (
        qualityRow(row.name, row, data.extra_columns.map(() => el('td')))))),
      body)));
  sort('pq');
}

function sizeTable() {
  const body = el('tbody');
  const show = (k) => body.replaceChildren(...data.sizes.map(({ label, groups }) => (
    qualityRow(label, groups[k]))));
  section('sizes', 'Quality by size of the segments',
    'Size is the square root of the area, in pixels of the full image. Segments found and missed are '
    + 'sorted by their true size, false ones by their own. Each row averages over the classes it has.',
    choice('Classes', 'size-group', data.groups.map(({ name }, k) => ({ value: k, label: name })), show),
    el('div', { class: 'scroll', style: 'margin-top: 12px' }, el('table', { class: 'wide', id: 'size-table' },
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Size'),
        el('th', { scope: 'col', class: 'text' }, barKeys()),
        NUMBERS.map(({ label }) => el('th', { scope: 'col' }, label)))), body)));
  show(0);
}

const names = [...data.classes.map(({ name }) => name), 'void'];

const kinds = {
  missed: {
    label: 'Missed segments', corner: 'Missed \u2193  Predicted there \u2192',
    text: (a, b) => `missed ${a}, predicted there: ${b}`,
  },
  false: {
    label: 'False segments', corner: 'False \u2193  True there \u2192',
    text: (a, b) => `false ${a}, true there: ${b}`,
  },
};

/** The errors of an image in words. */
const describeErrors = ({ errors }) => Object.entries(errors).map(([key, count]) => {
  const [kind, own, instead] = key.split(':');
  return `${count} \u00d7 ${kinds[kind].text(names[own], names[instead])}`;
});

function confusionTable(gallery) {
  const place = el('div', { class: 'scroll confusion-scroll', style: 'margin-top: 12px' });

  function show(kind) {
    const matrix = data.confusion[kind];
    const rows = data.classes.map((_, k) => k).filter((k) => matrix[k].some((n) => n));
    const columns = names.map((_, k) => k)
      .filter((k) => rows.includes(k) || matrix.some((row) => row[k]));
    const cell = (row, column) => {
      const count = matrix[row][column];
      const text = kinds[kind].text(names[row], names[column]);
      if (!count) return el('td', { class: row === column ? 'same' : null }, '\u00b7');
      const share = count / matrix[row].reduce((sum, n) => sum + n);
      // From white to a dark blue; black text has the better contrast on most of it.
      const style = `background: color-mix(in srgb, #0059a0 ${8 + 92 * share}%, #fff); color: ${share > 0.72 ? '#fff' : '#000'}`;
      return el('td', { class: row === column ? 'same' : null }, el('button', {
        type: 'button', style, title: `${count} \u00d7 ${text} (${percent(share)} %)`,
        'aria-label': `${count} ${text}: show the images`,
        onclick: () => gallery.filterPair(`${kind}:${row}:${column}`, text),
      }, count));
    };
    place.replaceChildren(rows.length === 0 ? el('p', {}, 'None.') : el('table', { class: 'confusion', id: 'confusion-table' },
      el('thead', {}, el('tr', {},
        el('th', { class: 'corner' }, el('span', {}, kinds[kind].corner)),
        columns.map((k) => el('th', { scope: 'col' }, el('span', {}, names[k]))))),
      el('tbody', {}, rows.map((row) => el('tr', {},
        el('th', { scope: 'row' }, swatch(data.classes[row].color), names[row]),
        columns.map((column) => cell(row, column)))))));
  }

  document.getElementById('confusion').append(
    choice('Errors', 'confusion-kind', Object.entries(kinds).map(
      ([value, { label }]) => ({ value, label })), show), place);
  show('missed');
}

function otherMetrics() {
  if (data.other_metrics.length === 0) return;
  section('other', 'Other measures of the run', 'As the test run gave them.',
    el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, data.other_metrics.map(
      ([name, value]) => el('tr', {}, el('th', { scope: 'row' }, name), el('td', {}, value.toFixed(2))))))));
}

head();
tiles();
classTable();
otherMetrics();
sizeTable();
section('confusion', 'What it was instead',
  'For every missed or false segment, the segment that covers most of it on the other side. Inside the dashed '
  + 'frame it has the same class: found, but with an IoU of at most 50 %, or as a part or a whole of others. '
  + 'Void on the side of the truth is unlabelled, on the side of the prediction nothing was predicted. '
  + 'Shades are shares of a row. Click a number to see the images.');
// The pictures come after this script.
document.addEventListener('DOMContentLoaded', () => {
  const gallery = new Gallery(section('gallery', 'Images',
    'Drag the slider, or use its arrow keys, to go from the image to the truth, the prediction and the errors. '
    + 'With a class chosen, the numbers and the order are those of the class. Click a picture to enlarge it.'), describeErrors);
  confusionTable(gallery);
});
