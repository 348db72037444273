// 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(4x4, 3x3): a quarter of the multiplications.
//
// Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, https://arxiv.org/abs/1509.09308: an output of 4x4
// pixels is A'[(G g G') * (B' d B)]A, where g is the filter and d the 6x6 pixels that it sees. The product in the
// middle is one of numbers for each pair of channels, so over tiles and channels it is 36 products of matrices.
//
// Images are float [image][row][column][channel], channels a multiple of 16. What is transformed lies in blocks of 16
// channels, [36][channel / 16][tile][16], a few tiles at a time, so that it is still in the cache when it is used.
#include <omp.h>

#include <algorithm>
#include <cstddef>
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

float* scratch(int which, long size) {
    if (kept[which].size() < static_cast<size_t>(size)) kept[which].resize(size);
    return kept[which].data();
}

inline vec& at(float* p) { return *reinterpret_cast<vec*>(p); }
inline const vec& at(const float* p) { return *reinterpret_cast<const vec*>(p); }

// The transforms of a line; twice, along columns and rows, they are those of a tile.
struct Image {  // B'd
    static constexpr int from = 6, to = 6;
    static void line(const vec* d, vec* v) {
        const vec a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
        v[0] = 4 * d[0] - 5 * d[2] + d[4];
        v[1] = a + b;
        v[2] = a - b;
        v[3] = c + e;
        v[4] = c - e;
        v[5] = 4 * d[1] - 5 * d[3] + d[5];
    }
};
struct Output {  // A'm
    static constexpr int from = 6, to = 4;
    static void line(const vec* m, vec* y) {
        const vec s = m[1] + m[2], d = m[1] - m[2], t = m[3] + m[4], u = m[3] - m[4];
        y[0] = m[0] + s + t;
        y[1] = d + 2 * u;
        y[2] = s + 4 * t;
        y[3] = d + 8 * u + m[5];
    }
};
struct Gradient {  // Ay
    static constexpr int from = 4, to = 6;
    static void line(const vec* y, vec* w) {
        const vec s = y[0] + y[2], d = y[1] + y[3], t = y[0] + 4 * y[2], u = 2 * y[1] + 8 * y[3];
        w[0] = y[0];
        w[1] = s + d;
        w[2] = s - d;
        w[3] = t + u;
        w[4] = t - u;
        w[5] = y[3];
    }
};
struct Filter {  // Gg
    static constexpr int from = 3, to = 6;
    static void line(const vec* g, vec* u) {
        const vec s = g[0] + g[2], t = g[0] + 4 * g[2], d = 2 * g[1];
        u[0] = g[0] / 4;
        u[1] = (s + g[1]) / -6;
        u[2] = (s - g[1]) / -6;
        u[3] = (t + d) / 24;
        u[4] = (t - d) / 24;
        u[5] = g[2];
    }
};
struct FilterGradient {  // G'm
    static constexpr int from = 6, to = 3;
    static void line(const vec* m, vec* g) {
        const vec s = m[1] + m[2], t = m[3] + m[4];
        g[0] = m[0] / 4 - s / 6 + t / 24;
        g[1] = (m[2] - m[1]) / 6 + (m[3] - m[4]) / 12;
        g[2] = (t - s) / 6 + m[5];
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
    long height, width, down, across, count, group;

    Tiles(long images, long height, long width, long most, long threads) : height(height), width(width) {
        down = (height + 3) / 4;
        across = (width + 3) / 4;
        count = images * down * across;
        const long rounds = std::max(1L, (count + most * threads - 1) / (most * threads));
        group = ((count + rounds * threads - 1) / (rounds * threads) + ROWS - 1) / ROWS * ROWS;
    }

    // Where the pixels of a tile lie, `outside` for those beyond the border.
    template <int size, class Float>
    void pixels(Float* images, long channels, long tile, long shift, Float* outside, Float* (&to)[size][size]) const {
        const long image = tile / (down * across);
        const long top = tile / across % down * 4 + shift, left = tile % across * 4 + shift;
        for (long i = 0; i < size; i++)
            for (long j = 0; j < size; j++) {
                const long row = top + i, column = left + j;
                const bool inside = row >= 0 && row < height && column >= 0 && column < width;
                to[i][j] = inside ? images + ((image * height + row) * width + column) * channels : outside;
            }
    }

    // Transforms `count` tiles from `first` on, into [36][channel / 16][group][16].
    template <class Line>
    void transformed(
        const float* images, long channels, long first, long count, long shift, const float* zeros, float* to) const {
        const float* from[Line::from][Line::from];
        const long point = channels * group;
        for (long t = 0; t < count; t++) {
            pixels(images, channels, first + t, shift, zeros, from);
            for (long c = 0; c < channels; c += LANES) {
                float* place = to + (c / BLOCK * group + t) * BLOCK + c % BLOCK;
                transform<Line>(
                    [&](int i, int j) { return at(from[i][j] + c); },
                    [&](int i, int j, vec value) { at(place + (i * 6 + j) * point) = value; });
            }
        }
    }
};

// m[tile][16] = v[tile][in] u[in][16], for ROWS tiles.
inline void multiply(const float* v, const float* u, float* m, long in, long group) {
    vec sum[ROWS][PARTS] = {};
    for (long block = 0; block < in; block += BLOCK, v += group * BLOCK)
        for (long c = 0; c < BLOCK; c++, u += BLOCK)
#pragma GCC unroll 6
            for (long r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (long p = 0; p < PARTS; p++) sum[r][p] += v[r * BLOCK + c] * at(u + p * LANES);
#pragma GCC unroll 6
    for (long r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (long p = 0; p < PARTS; p++) at(m + r * BLOCK + p * LANES) = sum[r][p];
}

// sum[row][16] += v[tile][row] w[tile][16] over tiles.
template <long rows> inline void accumulate(const float* v, const float* w, float* to, long tiles, long stride) {
    vec sum[rows][PARTS];
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (long p = 0; p < PARTS; p++) sum[r][p] = at(to + r * stride + p * LANES);
    for (long t = 0; t < tiles; t++, v += BLOCK, w += BLOCK)
#pragma GCC unroll 6
        for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (long p = 0; p < PARTS; p++) sum[r][p] += v[r] * at(w + p * LANES);
#pragma GCC unroll 6
    for (long r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (long p = 0; p < PARTS; p++) at(to + r * stride + p * LANES) = sum[r][p];
}

}  // namespace

extern "C" {

// Filters [out][in][3][3], of any strides, transformed into [36][out / 16][in][16].
void filters(
    const float* g, long out, long in, long by_out, long by_in, long by_row, long by_column, float* u, long threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long o = 0; o < out; o += LANES)
        for (long c = 0; c < in; c++) {
            const float* from = g + o * by_out + c * by_in;
            float* to = u + (o / BLOCK * in + c) * BLOCK + o % BLOCK;
            transform<Filter>(
                [&](int i, int j) {
                    vec value;
                    for (int k = 0; k < LANES; k++) value[k] = from[i * by_row + j * by_column + k * by_out];
                    return value;
                },
                [&](int i, int j, vec value) { at(to + (i * 6 + j) * out * in) = value; });
        }
}

// y [image][row][column][out] = x [image][row][column][in], padded by 1, convolved with the transformed filters, plus
// the bias [out].
void forward(
    const float* x, const float* u, const float* bias, float* y, long images, long height, long width, long in,
    long out, long most, long threads) {
    const Tiles tiles(images, height, width, most, threads);
    const std::vector<float> zeros(in);
#pragma omp parallel num_threads(threads)
    {
        float* v = scratch(0, POINTS * in * tiles.group);
        float* m = scratch(1, POINTS * out * tiles.group);
        std::vector<float> beyond(out);
        float* to[4][4];
#pragma omp for schedule(static)
        for (long first = 0; first < tiles.count; first += tiles.group) {
            const long count = std::min(tiles.group, tiles.count - first);
            tiles.transformed<Image>(x, in, first, count, -1, zeros.data(), v);
            for (long point = 0; point < POINTS; point++)
                for (long o = 0; o < out; o += BLOCK)
                    for (long t = 0; t < count; t += ROWS)
                        multiply(
                            v + point * in * tiles.group + t * BLOCK, u + (point * out + o) * in,
                            m + (point * out + o) * tiles.group + t * BLOCK, in, tiles.group);
            for (long t = 0; t < count; t++) {
                tiles.pixels(y, out, first + t, 0, beyond.data(), to);
                for (long o = 0; o < out; o += LANES) {
                    const float* from = m + (o / BLOCK * tiles.group + t) * BLOCK + o % BLOCK;
                    const vec offset = at(bias + o);
                    transform<Output>(
                        [&](int i, int j) { return at(from + (i * 6 + j) * out * tiles.group); },
                        [&](int i, int j, vec value) { at(to[i][j] + o) = value + offset; });
                }
            }
        }
    }
}

// The gradient of the filters, [out][in][3][3] of any strides, from the images and the gradient of the output.
void filter_gradient(
    const float* x, const float* dy, float* dg, long images, long height, long width, long in, long out,
    long by_out, long by_in, long by_row, long by_column, long most, long threads) {
    const Tiles tiles(images, height, width, most, threads);
    const std::vector<float> zeros(std::max(in, out));
    std::vector<float*> sums(threads);  // a thread each, as far as there are so many
#pragma omp parallel num_threads(threads)
    {
        float* v = scratch(0, POINTS * in * tiles.group);
        float* w = scratch(1, POINTS * out * tiles.group);
        float* sum = sums[omp_get_thread_num()] = scratch(2, POINTS * in * out);
        std::fill_n(sum, POINTS * in * out, 0.f);
#pragma omp for schedule(static)
        for (long first = 0; first < tiles.count; first += tiles.group) {
            const long count = std::min(tiles.group, tiles.count - first);
            tiles.transformed<Image>(x, in, first, count, -1, zeros.data(), v);
            tiles.transformed<Gradient>(dy, out, first, count, 0, zeros.data(), w);
            for (long point = 0; point < POINTS; point++)
                for (long o = 0; o < out; o += BLOCK) {
                    const float* right = w + (point * out + o) * tiles.group;
                    for (long c = 0; c < in; c += BLOCK) {
                        const float* left = v + (point * in + c) * tiles.group;
                        float* to = sum + (point * in + c) * out + o;
                        accumulate<6>(left, right, to, count, out);
                        accumulate<6>(left + 6, right, to + 6 * out, count, out);
                        accumulate<4>(left + 12, right, to + 12 * out, count, out);
                    }
                }
        }
#pragma omp for collapse(2) schedule(static)
        for (long c = 0; c < in; c++)
            for (long o = 0; o < out; o += LANES) {
                float* to = dg + c * by_in + o * by_out;
                transform<FilterGradient>(
                    [&](int i, int j) {
                        vec total = {};
                        for (const float* part : sums)
                            if (part) total += at(part + ((i * 6 + j) * in + c) * out + o);
                        return total;
                    },
                    [&](int i, int j, vec value) {
                        for (int k = 0; k < LANES; k++) to[i * by_row + j * by_column + k * by_out] = value[k];
                    });
            }
    }
}
}
