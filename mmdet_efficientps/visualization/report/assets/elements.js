// Making elements and formatting, for every page and for the view of segments.

/** Make an element; children are elements or texts. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/** A share 0..1 in percent; a dash where there is nothing to measure. */
const percent = (value) => (value == null ? '\u2013' : (100 * value).toFixed(1));

const swatch = (color) => el('span', {
  class: 'swatch', style: `background: rgb(${color.join(' ')})`,
});

/** A row of exclusive choices; calls `choose` with the value of the new one. */
function choice(legend, name, options, choose) {
  return el('fieldset', {}, el('legend', {}, legend), el('div', { class: 'choice' },
    options.map(({ value, label }, k) => el('label', {},
      el('input', {
        type: 'radio', name, value, checked: k === 0, onchange: () => choose(value),
      }), label))));
}

function select(label, id, options, choose) {
  return el('label', {}, label, el('select', { id, onchange: (e) => choose(e.target.value) },
    options.map(({ value, label: text }) => el('option', { value }, text))));
}
