// Makes mastodon.json beside it: what a browser's HTML and JavaScript's regular expressions say, for the tests in
// src/dialects/mastodon. Run once: `npm install --no-save jsdom@24 && node mastodon.mjs > mastodon.json`.
import { JSDOM } from 'jsdom';

let state = 7;
const below = (n) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
};
const draw = (items, most) =>
  Array.from({ length: 1 + below(most) }, () => items[below(items.length)]).join('');

// HTML: text content of a fragment.
const pieces = [
  'a', 'b c', '<', '>', '</', '<p>', '</p>', '<a href="x>y" title=\'>\'>', '</a>', '<br>', '<br />', '<!-- c -->', '<!--',
  '-->', '--!>', '<!>', '<?x?>', '<!doctype html>', '</ x>', '</>', '&amp;', '&amp', '&ampx', '&lt;3', '&notit;', '&notin;',
  '&nbsp;', '&#39;', '&#39', '&#x27;', '&#128;', '&#0;', '&#xd800;', '&#x110000;', '&#99999999999;', '&#;', '&#x;', '&',
  '&;', '&unknown;', '&NotEqualTilde;', '&CounterClockwiseContourIntegral;', '\n', '\r\n', '\r', '"', "'", '/', '=', '😀',
  'é', '<script>', '</script>', '<style>', '</style >', '<textarea>', '</textarea>', '<title>', '</title>', '<pre>', '<b/>',
  '<x a=1 b = "2" c>', '<x =>', '<x a="1"b>', '<span class="invisible">', '</span>', '<xmp>', '</XMP>', '<iframe>',
  '</iframe>', '<img alt="&lt;b&gt;">', '<3',
];
const html = [
  '<p>Hello <a href="https://a.example/tags/x" class="mention hashtag" rel="tag">#<span>x</span></a>!</p>',
  '<template>a<b>c</b></template>d', '<template>a<template>b</template>c</template>d', '<pre>\n\na</pre>', '<pre>\r\na</pre>',
  '<plaintext>a</plaintext><b>&amp;', '<!-->a', '<!--->a', '<!---->a', '<!----->a', '<!--a--b-->c', '<!--a--->b',
  '<!--a--!>b', '<script><!--<b>--></script>a', '<textarea>&lt;</textarea>', '<style>&lt;</style>', 'a\0b', '<svg>a</svg>b',
];
for (let i = 0; i < 600; i++) html.push(draw(pieces, 8));
const text = (it) => JSDOM.fragment(it).textContent;

// Tags: as the reference describes them.
const letters = { ð: 'd', đ: 'd', ø: 'o', ħ: 'h', ı: 'i', ĸ: 'k', ł: 'l', ŋ: 'n', ŧ: 't' };
const fold = (it) => {
  if (letters[it]) return letters[it];
  if (it < '\u00c0' || it > '\u017f') return it;
  const base = it.normalize('NFD')[0];
  return /[A-Za-z]/.test(base) ? base : it;
};
export const tag = (it) =>
  [...it.normalize('NFKC').toLowerCase()].map(fold).join('').replace(/[^\p{L}\p{N}_\u00b7\u200c]/gu, '');
const tags = [
  'Mastodon', 'CamelCaseTag', 'FóO Bar', '#hash', 'a_b', 'a-b', 'a.b', '1984', 'ÀÉÎÕÜ', 'ÆØÅ', 'Straße', 'STRASSE', 'Þórr', 'œuvre',
  'İstanbul', 'ISPARTA', 'ılık', 'Łódź', 'Đakovo', 'ħ', 'ĸ', 'ŋ', 'Ŧ', 'ſtill', 'ŀl', 'Ŀl', 'Ĳs', 'ŉ', 'ﬁn', '①②', 'ＡＢＣ１２', '½', 'm²', 'ª',
  'Ὀδυσσεύς', 'ΣΊΣΥΦΟΣ', 'ΟΔΟΣ ΟΔΟΣ', 'ά', 'ΐ', 'Москва', 'Ёлка', 'Й', 'Україна', 'Ђорђе', 'Հայաստան', 'և', 'שָׁלוֹם', 'ירושלים', 'مرحبا', 'اَلْعَرَبِيَّةُ',
  'ﷺ', 'می‌خواهم', 'سلام‌علیکم', 'اردو', 'ܫܠܡܐ', 'ދިވެހި', 'ߒߞߏ', 'हिन्दी', 'क़', 'नमस्ते', 'বাংলা', 'ড়', 'ਪੰਜਾਬੀ', 'ગુજરાતી', 'ଓଡ଼ିଆ', 'தமிழ்', 'తెలుగు',
  'ಕನ್ನಡ', 'മലയാളം', 'සිංහල', 'ไทย', 'ประเทศไทย', 'ลำ', 'ລາວ', 'བོད་ཡིག', 'မြန်မာ', 'ქართული', 'ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ', '한국어', 'ㅋㅋㅋ', '한국어', 'አማርኛ',
  'ᏣᎳᎩ', 'ꮳꮃꭹ', 'ᐃᓄᒃᑎᑐᑦ', 'ខ្មែរ', 'ᠮᠣᠩᠭᠣᠯ', 'ᠮᠣᠩ᠎ᠭᠣᠯ', '日本語', 'ひらがな', 'カタカナ', 'ｶﾀｶﾅ', 'ガ', 'ﾀﾞ', '々', '〆', '〇', '㍿', '㈱', '中文', '繁體', '漢字ー', 'ーー',
  'l·l', 'l·L', 'a·b', '·', 'a‌b', 'a‍b', '👍', '1️⃣', '👨‍👩‍👧', '🇩🇪', '𝐁𝐨𝐥𝐝', '𝔉𝔯𝔞𝔨', '𐐀𐐨', '𞤀𞤢', '𠀀', 'Ⅷ', 'ⅷ', 'ⓐ', '٣', '३', '𝟙', '٪', 'ʼn', 'ʻokina', 'ʻ',
  'ǆ', 'ǅ', 'Ǆ', 'ǎ', 'ȧ', 'ḃ', 'ạ', 'ế', 'tiếng Việt', 'Ɓ', 'ə', 'Ə', 'Å', 'K', 'Ω', 'µ', '×', '÷', 'ß', 'ẞ', '', ' ', '\u0307', 'a\u0307',
  'i̇', 'e\u0301', '\ud83d', 'a\u0000b', '＿', '＃', '・', 'ｰ', 'ﾞ', '゛', '…', '™', '℃', 'ﬀ', 'ŸÿŽž', '\u0345', 'ᾳ', 'ᾼ', 'ᾈ',
];

// Keywords: the first match of a filter, its keywords alternatives.
const expression = (keywords) => {
  const parts = keywords.map(([keyword, whole]) => {
    const escaped = keyword.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    return `${whole && /^\w/.test(keyword) ? '\\b' : ''}${escaped}${whole && /\w$/.test(keyword) ? '\\b' : ''}`;
  });
  return new RegExp(parts.join('|'), 'i');
};
const marks = [
  'a', 'A', 'b', 'ab', '_', '1', ' ', '-', '.', '+', '\n', 'k', '\u212a', 's', 'ſ', 'S', 'ß', 'ẞ', 'é', 'É', 'ı', 'İ', 'i', 'I', 'σ', 'ς',
  'Σ', 'µ', 'μ', 'Μ', 'ɐ', 'Ɐ', 'ǆ', 'ǅ', 'Ǆ', 'я', 'Я', '日', '😀', '𐐀', '𐐨', 'ა', 'Ა', 'ꭰ', 'Ꭰ', 'ﬁ', 'ŉ', 'ά', '\u0345', 'ι', '\u1fbe', 'Ω', 'ω', 'Ω', 'å', 'Å',
];
const keywords = [
  [[['cat', true]], 'concat Cat.'], [[['c++', true]], 'c++x'], [[['c++', true]], 'xc++'], [[['a b', true]], 'ba b a b'],
  [[['b', false], ['ab', false]], 'xab'], [[['a', false], ['ab', false]], 'xab'], [[['ab', false], ['a', false]], 'xab'],
  [[['#tag', true]], 'a #Tag b'], [[['#tag', true]], 'a#tags'], [[['été', true]], 'xétéx'], [[['_', true]], 'a _ b'],
];
for (let i = 0; i < 700; i++) {
  const some = i % 2 ? marks : ['a', 'A', 'b', ' ', '_', '-', 'é', 'É'];
  const own = Array.from({ length: 1 + below(3) }, () => [draw(some, 3), below(2) === 1]);
  keywords.push([own, draw(some, 14)]);
}

// Characters that are the same but for case: each with all others.
const same = [];
const seen = new Set();
const plane = [];
for (let unit = 0; unit < 0x10000; unit++) {
  if (unit < 0xd800 || unit > 0xdfff) plane.push(String.fromCharCode(unit));
}
const all = plane.join('');
for (const it of plane) {
  if (seen.has(it) || (it.toUpperCase() === it && it.toLowerCase() === it)) continue;
  const others = all.match(new RegExp(`\\u${it.charCodeAt(0).toString(16).padStart(4, '0')}`, 'gi'));
  for (const other of others) seen.add(other);
  if (others.length > 1) same.push(others.join(''));
}

const lines = (items) => `[\n${items.map((it) => JSON.stringify(it)).join(',\n')}\n]`;
const parts = {
  html: html.map((it) => [it, text(it)]),
  tags: tags.map((it) => [it, tag(it)]),
  keywords: keywords.map(([own, it]) => [own, it, it.match(expression(own))?.[0] ?? null]),
  same,
};
process.stdout.write(`{${Object.entries(parts).map(([name, items]) => `"${name}":${lines(items)}`).join(',\n')}}\n`);
