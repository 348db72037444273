// 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(4x4, 3x3): a quarter of the multiplications.
//
// Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, https://arxiv.org/abs/1509.09308: an output of 4x4
// pixels is A'[(G g G') * (B' d B)]A, where g is the filter and d the 6x6 pixels that it sees. The product in the
// middle is one of numbers for each pair of channels, so over tiles and channels it is 36 products of matrices.
// The polynomials behind it are evaluated at 0, +-sqrt(2), +-sqrt(1/2) and infinity: half the rounding error of the
// paper's 0, +-1, +-2.
//
// Images are [image][row][column][channel], of floats or, where the CPU multiplies them, of bf16; channels are a
// multiple of 16. What is transformed has the images' type and lies in blocks of 16 channels,
// [36][channel / 16][tile][16], a few tiles at a time, so that it is still in the cache when it is used. Filters, and
// whatever is summed, are floats.
//
// bf16 is multiplied two by two: neighbours among what a product sums over lie side by side. Images' channels do so
// by themselves; transformed filters are [36][out / 16][in / 2][16][2] and, for the gradient of the filters, which
// sums over tiles, images are [36][channel / 16][tile / 2][16][2].
#include <omp.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

#ifndef LANES  // the floats of a register
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));  // may lie anywhere
constexpr long BLOCK = 16, PARTS = BLOCK / LANES, POINTS = 36, ROWS = 6;

// Memory that a thread keeps from call to call: fresh pages would cost more than what is written to them.
thread_local std::vector<float> kept[3];

template <class Number = float> Number* scratch(int which, long size) {
    const size_t floats = (size * sizeof(Number) + 3) / 4;
    if (kept[which].size() < floats) kept[which].resize(floats);
    return reinterpret_cast<Number*>(kept[which].data());
}

inline vec& at(float* p) { return *reinterpret_cast<vec*>(p); }
inline const vec& at(const float* p) { return *reinterpret_cast<const vec*>(p); }
inline vec load(const float* p) { return at(p); }
inline void store(float* p, vec value) { at(p) = value; }

#ifdef __AVX512BF16__
struct bf16 {
    uint16_t bits;
};
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t wholes __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
inline vec load(const bf16* p) {
    return (vec)(__builtin_convertvector(*reinterpret_cast<const halves*>(p), wholes) << 16);
}
inline halves rounded(vec value) { return (halves)_mm512_cvtneps_pbh((__m512)value); }
inline void store(bf16* p, vec value) { *reinterpret_cast<halves*>(p) = rounded(value); }
#endif

// Where a tile of a block of channels lies: side by side with its neighbour, if the products sum over tiles.
template <bool paired> inline void store(float* block, long tile, vec value) { store(block + tile * BLOCK, value); }
#ifdef __AVX512BF16__
template <bool paired> inline void store(bf16* block, long tile, vec value) {
    if (!paired) return store(block + tile * BLOCK, value);
    wholes& pair = *reinterpret_cast<wholes*>(block + tile / 2 * 2 * BLOCK);
    const wholes half = __builtin_convertvector(rounded(value), wholes);
    pair = tile % 2 ? pair | half << 16 : half;  // an even tile's neighbour, which may not come, is 0 at first
}
#endif

// The transforms of a line; twice, along columns and rows, they are those of a tile.
constexpr float P = 1.41421356237309504880f, Q = P / 2;  // the points beside 0 are +-P and +-Q
struct Image {  // B'd
    static constexpr int from = 6, to = 6;
    static void line(const vec* d, vec* v) {
        const vec a = d[4] - d[2] / 2, b = P * d[3] - Q * d[1], c = d[4] - 2 * d[2], e = Q * d[3] - P * d[1];
        v[0] = d[0] - 2.5f * d[2] + d[4];
        v[1] = a + b;
        v[2] = a - b;
        v[3] = c + e;
        v[4] = c - e;
        v[5] = d[1] - 2.5f * d[3] + d[5];
    }
};
struct Output {  // A'm
    static constexpr int from = 6, to = 4;
    static void line(const vec* m, vec* y) {
        const vec s = m[1] + m[2], d = P * (m[1] - m[2]), t = m[3] + m[4], u = Q * (m[3] - m[4]);
        y[0] = m[0] + s + t;
        y[1] = d + u;
        y[2] = 2 * s + t / 2;
        y[3] = 2 * d + u / 2 + m[5];
    }
};
struct Gradient {  // Ay
    static constexpr int from = 4, to = 6;
    static void line(const vec* y, vec* w) {
        const vec a = y[0] + 2 * y[2], b = P * (y[1] + 2 * y[3]), c = y[0] + y[2] / 2, e = Q * (y[1] + y[3] / 2);
        w[0] = y[0];
        w[1] = a + b;
        w[2] = a - b;
        w[3] = c + e;
        w[4] = c - e;
        w[5] = y[3];
    }
};
struct Filter {  // Gg
    static constexpr int from = 3, to = 6;
    static void line(const vec* g, vec* u) {
        const vec a = g[0] + 2 * g[2], b = P * g[1], c = g[0] + g[2] / 2, e = Q * g[1];
        u[0] = g[0];
        u[1] = (a + b) / 6;
        u[2] = (a - b) / 6;
        u[3] = (c + e) / -1.5f;
        u[4] = (c - e) / -1.5f;
        u[5] = g[2];
    }
};
struct FilterGradient {  // G'm
    static constexpr int from = 6, to = 3;
    static void line(const vec* m, vec* g) {
        const vec s = m[1] + m[2], d = m[1] - m[2], t = m[3] + m[4], u = m[3] - m[4];
        g[0] = m[0] + s / 6 - t / 1.5f;
        g[1] = P / 6 * d - Q / 1.5f * u;
        g[2] = (s - t) / 3 + m[5];
    }
};

// `load(row, column)` gives a value of the tile, `store(row, column, value)` takes one of its transform.
template <class Line, class Load, class Store> inline void transform(Load load, Store store) {
    vec columns[Line::to][Line::from], line[std::max(Line::from, Line::to)], turned[Line::to];
    for (int j = 0; j < Line::from; j++) {
        for (int i = 0; i < Line::from; i++) line[i] = load(i, j);
        Line::line(line, turned);
        for (int i = 0; i < Line::to; i++) columns[i][j] = turned[i];
    }
    for (int i = 0; i < Line::to; i++) {
        Line::line(columns[i], turned);
        for (int j = 0; j < Line::to; j++) store(i, j, turned[j]);
    }
}

// How a batch is cut into tiles, and those into groups that a thread works on at a time.
struct Tiles {
    long height, width, down, across, count, group, groups;

    Tiles(long images, long height, long width, long most, long threads) : height(height), width(width) {
        down = (height + 3) / 4;
        across = (width + 3) / 4;
        count = images * down * across;
        const long rounds = std::max(1L, (count + most * threads - 1) / (most * threads));
        group = ((count + rounds * threads - 1) / (rounds * threads) + ROWS - 1) / ROWS * ROWS;
        groups = (count + group - 1) / group;
    }

    // Where the pixels of a tile lie, `outside` for those beyond the border.
    template <int size, class Number>
    void pixels(
        Number* images, long channels, long tile, long shift, Number* outside, Number* (&to)[size][size]) const {
        const long image = tile / (down * across);
        const long top = tile / across % down * 4 + shift, left = tile % across * 4 + shift;
        for (long i = 0; i < size; i++)
            for (long j = 0; j < size; j++) {
                const long row = top + i, column = left + j;
                const bool inside = row >= 0 && row < height && column >= 0 && column < width;
                to[i][j] = inside ? images + ((image * height + row) * width + column) * channels : outside;
            }
    }

    // Transforms some tiles of the group that begins with `first`, into [36][channel / 16][group][16].
    template <class Line, bool paired = false, class Number>
    void transformed(
        const Number* images, long channels, long first, long begin, long end, long shift, const Number* zeros,
        Number* to) const {
        const Number* from[Line::from][Line::from];
        const long point = channels * group;
        for (long t = begin; t < end; t++) {
            pixels(images, channels, first + t, shift, zeros, from);
            for (long c = 0; c < channels; c += LANES) {
                Number* block = to + c / BLOCK * group * BLOCK + c % BLOCK;
                transform<Line>(
                    [&](int i, int j) { return load(from[i][j] + c); },
                    [&](int i, int j, vec value) { store<paired>(block + (i * 6 + j) * point, t, value); });
            }
        }
    }
};

// What the registers hold the sums of: a few rows and blocks of 16 columns.
constexpr long WIDE = LANES == 16 ? 4 : 1;
inline long blocks_of(long left) { return std::min(WIDE, left >= 4 ? 4L : left >= 2 ? 2L : 1L); }
template <class Number> constexpr long AT_ONCE = 1;  // products that the CPU sums at a time

// sum[row][part] += left[row] right[part], rows `by_row` apart, blocks of columns `by_block`.
template <long rows, long parts>
inline void step(vec (&sum)[rows][parts], const float* left, long by_row, const float* right, long by_block) {
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (long p = 0; p < parts; p++)
            sum[r][p] += left[r * by_row] * at(right + p / PARTS * by_block + p % PARTS * LANES);
}
#ifdef __AVX512BF16__
template <> constexpr long AT_ONCE<bf16> = 2;
template <long rows, long parts>
inline void step(vec (&sum)[rows][parts], const bf16* left, long by_row, const bf16* right, long by_block) {
    __m512bh columns[parts];
#pragma GCC unroll 4
    for (long p = 0; p < parts; p++) columns[p] = (__m512bh)_mm512_loadu_si512(right + p * by_block);
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++) {
        int pair;
        __builtin_memcpy(&pair, left + r * by_row, sizeof pair);
        const __m512bh row = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
        for (long p = 0; p < parts; p++) sum[r][p] = (vec)_mm512_dpbf16_ps((__m512)sum[r][p], row, columns[p]);
    }
}
#endif

// m[block][tile][16] = v[tile][in] u[block][in][16], for ROWS tiles and some blocks of 16 channels.
template <long blocks, class Number>
inline void multiply(const Number* v, const Number* u, float* m, long in, long group) {
    vec sum[ROWS][blocks * PARTS] = {};
    for (long block = 0; block < in; block += BLOCK)
        for (long c = 0; c < BLOCK; c += AT_ONCE<Number>)
            step(sum, v + block * group + c, BLOCK, u + (block + c) * BLOCK, in * BLOCK);
#pragma GCC unroll 6
    for (long r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (long p = 0; p < blocks * PARTS; p++)
            at(m + (p / PARTS * group + r) * BLOCK + p % PARTS * LANES) = sum[r][p];
}

// to[row][blocks][16] = or += v[tile][row] w[block][tile][16] over tiles, for some rows of a block of channels.
template <long rows, long blocks, class Number>
inline void accumulate(
    const Number* v, const Number* w, float* to, long count, long group, long out, bool fresh) {
    vec sum[rows][blocks * PARTS];
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (long p = 0; p < blocks * PARTS; p++) sum[r][p] = fresh ? vec{} : at(to + r * out + p * LANES);
    for (long t = 0; t < count; t += AT_ONCE<Number>)
        step(sum, v + t * BLOCK, AT_ONCE<Number>, w + t * BLOCK, group * BLOCK);
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (long p = 0; p < blocks * PARTS; p++) at(to + r * out + p * LANES) = sum[r][p];
}
template <long blocks, class Number>
void accumulate_block(
    const Number* v, const Number* w, float* to, long count, long group, long out, bool fresh) {
    constexpr long next = 6 * AT_ONCE<Number>;
    accumulate<6, blocks>(v, w, to, count, group, out, fresh);
    accumulate<6, blocks>(v + next, w, to + 6 * out, count, group, out, fresh);
    accumulate<4, blocks>(v + 2 * next, w, to + 12 * out, count, group, out, fresh);
}

// Filters [out][in][3][3], of any strides, transformed into [36][out / 16][in][16].
template <class Number>
void transform_filters(
    const float* g, long out, long in, long by_out, long by_in, long by_row, long by_column, Number* u, long threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long o = 0; o < out; o += LANES)
        for (long c = 0; c < in; c++) {
            const float* from = g + o * by_out + c * by_in;
            Number* block = u + o / BLOCK * BLOCK * in + o % BLOCK;
            transform<Filter>(
                [&](int i, int j) {
                    vec value;
                    for (int k = 0; k < LANES; k++) value[k] = from[i * by_row + j * by_column + k * by_out];
                    return value;
                },
                [&](int i, int j, vec value) { store<true>(block + (i * 6 + j) * out * in, c, value); });
        }
}

// y [image][row][column][out] = x [image][row][column][in], padded by 1, convolved with the transformed filters, plus
// the bias [out].
template <class Number>
void convolve(
    const Number* x, const Number* u, const float* bias, Number* y, long images, long height, long width, long in,
    long out, long threads) {
    // Few tiles at a time, so that the cache holds them; but it is filters that don't fit which come again for each.
    const Tiles tiles(images, height, width, in * out < 512 * 512 ? 24 : 96, threads);
    // Where the tiles are too few for all threads, they share a group's output channels.
    const long parts = std::min(out / BLOCK, (threads + tiles.groups - 1) / tiles.groups);
    const std::vector<Number> zeros(in);
#pragma omp parallel num_threads(threads)
    {
        Number* v = scratch<Number>(0, POINTS * in * tiles.group);
        float* m = scratch(1, POINTS * WIDE * BLOCK * tiles.group);
        std::vector<Number> beyond(out);
        Number* to[4][4];
#pragma omp for collapse(2) schedule(static)
        for (long g = 0; g < tiles.groups; g++)
            for (long part = 0; part < parts; part++) {
                const long first = g * tiles.group, count = std::min(tiles.group, tiles.count - first);
                const long end = out / BLOCK * (part + 1) / parts * BLOCK;
                tiles.template transformed<Image>(x, in, first, 0, count, -1, zeros.data(), v);
                for (long o = out / BLOCK * part / parts * BLOCK, blocks; o < end; o += blocks * BLOCK) {
                    blocks = blocks_of((end - o) / BLOCK);
                    const auto product = blocks == 4 ? multiply<WIDE, Number>
                        : blocks == 2 ? multiply<std::min(2L, WIDE), Number> : multiply<1, Number>;
                    for (long point = 0; point < POINTS; point++)
                        for (long t = 0; t < count; t += ROWS)
                            product(
                                v + point * in * tiles.group + t * BLOCK, u + (point * out + o) * in,
                                m + point * blocks * BLOCK * tiles.group + t * BLOCK, in, tiles.group);
                    for (long t = 0; t < count; t++) {
                        tiles.pixels(y, out, first + t, 0, beyond.data(), to);
                        for (long k = 0; k < blocks * BLOCK; k += LANES) {
                            const float* from = m + (k / BLOCK * tiles.group + t) * BLOCK + k % BLOCK;
                            const vec offset = at(bias + o + k);
                            transform<Output>(
                                [&](int i, int j) { return at(from + (i * 6 + j) * blocks * BLOCK * tiles.group); },
                                [&](int i, int j, vec value) { store(to[i][j] + o + k, value + offset); });
                        }
                    }
                }
            }
    }
}

// The gradient of the filters, [out][in][3][3] of any strides, from the images and the gradient of the output.
template <class Number>
void gradient_of_filters(
    const Number* x, const Number* dy, float* dg, long images, long height, long width, long in, long out,
    long by_out, long by_in, long by_row, long by_column, long threads) {
    // Where channels are few, each thread has tiles and sums of its own; sums of many pairs of channels are too large
    // for that, so that all threads work on the same tiles.
    const bool together = in * out >= 128 * 128;
    const Tiles tiles(images, height, width, (together ? 1024 : 512) / sizeof(Number), together ? 1 : threads);
    const std::vector<Number> zeros(std::max(in, out));
    struct Team {
        Number *v, *w;
        float* sum;
    };
    std::vector<Team> teams;
#pragma omp parallel num_threads(threads)
    {
        const long thread = omp_get_thread_num(), all = omp_get_num_threads();
        const long number = together ? 0 : thread, member = together ? thread : 0, members = together ? all : 1;
#pragma omp single
        teams.resize(std::min(together ? 1 : all, tiles.groups));
        if (!member && number < long(teams.size()))
            teams[number] = {
                scratch<Number>(0, POINTS * in * tiles.group), scratch<Number>(1, POINTS * out * tiles.group),
                scratch(2, POINTS * in * out)};
#pragma omp barrier
        for (long group = number; group < tiles.groups; group += teams.size()) {
            const Team team = teams[number];
            const long first = group * tiles.group, count = std::min(tiles.group, tiles.count - first);
            const long begin = count * member / members / 2 * 2;
            const long end = member + 1 < members ? count * (member + 1) / members / 2 * 2 : count;
            tiles.template transformed<Image, true>(x, in, first, begin, end, -1, zeros.data(), team.v);
            tiles.template transformed<Gradient, true>(dy, out, first, begin, end, 0, zeros.data(), team.w);
            if (together) {
#pragma omp barrier
            }
            for (long part = member; part < POINTS * in / BLOCK; part += members) {
                const long point = part / (in / BLOCK), c = part % (in / BLOCK) * BLOCK;
                for (long o = 0, blocks; o < out; o += blocks * BLOCK) {
                    blocks = blocks_of((out - o) / BLOCK);
                    const auto product = blocks == 4 ? accumulate_block<WIDE, Number>
                        : blocks == 2 ? accumulate_block<std::min(2L, WIDE), Number> : accumulate_block<1, Number>;
                    product(
                        team.v + (point * in + c) * tiles.group, team.w + (point * out + o) * tiles.group,
                        team.sum + (point * in + c) * out + o, count, tiles.group, out, group == number);
                }
            }
            if (together) {
#pragma omp barrier
            }
        }
#pragma omp barrier
#pragma omp for collapse(2) schedule(static)
        for (long c = 0; c < in; c++)
            for (long o = 0; o < out; o += LANES) {
                float* to = dg + c * by_in + o * by_out;
                transform<FilterGradient>(
                    [&](int i, int j) {
                        vec total = {};
                        for (const Team& team : teams) total += load(team.sum + ((i * 6 + j) * in + c) * out + o);
                        return total;
                    },
                    [&](int i, int j, vec value) {
                        for (int k = 0; k < LANES; k++) to[i * by_row + j * by_column + k * by_out] = value[k];
                    });
            }
    }
}

}  // namespace

extern "C" {

void filters(
    const float* g, long out, long in, long by_out, long by_in, long by_row, long by_column, float* u, long threads) {
    transform_filters(g, out, in, by_out, by_in, by_row, by_column, u, threads);
}

void forward(
    const float* x, const float* u, const float* bias, float* y, long images, long height, long width, long in,
    long out, long threads) {
    convolve(x, u, bias, y, images, height, width, in, out, threads);
}

void filter_gradient(
    const float* x, const float* dy, float* dg, long images, long height, long width, long in, long out,
    long by_out, long by_in, long by_row, long by_column, long threads) {
    gradient_of_filters(x, dy, dg, images, height, width, in, out, by_out, by_in, by_row, by_column, threads);
}

#ifdef __AVX512BF16__
void filters_bf16(
    const float* g, long out, long in, long by_out, long by_in, long by_row, long by_column, bf16* u, long threads) {
    transform_filters(g, out, in, by_out, by_in, by_row, by_column, u, threads);
}

void forward_bf16(
    const bf16* x, const bf16* u, const float* bias, bf16* y, long images, long height, long width, long in, long out,
    long threads) {
    convolve(x, u, bias, y, images, height, width, in, out, threads);
}

void filter_gradient_bf16(
    const bf16* x, const bf16* dy, float* dg, long images, long height, long width, long in, long out,
    long by_out, long by_in, long by_row, long by_column, long threads) {
    gradient_of_filters(x, dy, dg, images, height, width, in, out, by_out, by_in, by_row, by_column, threads);
}
#endif
}
