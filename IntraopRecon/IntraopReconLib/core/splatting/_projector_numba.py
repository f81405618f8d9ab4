"""The projector as numba kernels for the CPU: no tiles, no sorting, no atomics.

Radiative Gaussians add up, so the order in which they reach a pixel does not matter. Forward: bands of image rows in parallel, each running
through all Gaussians. Backward: Gaussians in parallel, each gathering the moments of the image gradient under its footprint.

The formulas are those of `_projector_reference`; see there for their source.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ._numba_rows import FOOTPRINT, PADDING, SUPPORT_SIGMAS, draw, moments, sums_for

BAND_ROWS = 32  # rows that one thread draws at a time
CHUNK = 256  # Gaussians that one thread gathers for at a time


@numba.njit(fastmath=True, error_model="numpy")
def _times(c, x, y, z):
    """Return C times a vector for the upper triangle c of a symmetric matrix."""
    return c[0] * x + c[1] * y + c[2] * z, c[1] * x + c[3] * y + c[4] * z, c[2] * x + c[4] * y + c[5] * z


@numba.njit(fastmath=True, error_model="numpy")
def _form(c, ax, ay, az, bx, by, bz):
    """Return aᵀ C b for the upper triangle c of a symmetric matrix."""
    x, y, z = _times(c, bx, by, bz)
    return ax * x + ay * y + az * z


@numba.njit(fastmath=True, error_model="numpy")
def _hide(f):
    """Make a footprint one that reaches no row."""
    f[:] = np.float32(0.0)
    f[2], f[4], f[6] = np.float32(1.0), np.float32(1.0), np.float32(-1.0)


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def footprints(means, covariances, masses, matrices, sources, determinants):
    """Return what each Gaussian looks like in each view, [view, N, FOOTPRINT] float32.

    Args:
        means: [N, 3] mm.
        covariances: [N, 6] mm², upper triangles.
        masses: [N] mm².
        matrices: [view, 3, 4], mm to homogeneous pixels; the third component is the depth in mm.
        sources: [view, 3] mm.
        determinants: [view], absolute determinant of the left 3×3 blocks.
    """
    view_count, count = matrices.shape[0], means.shape[0]
    result = np.empty((view_count, count, FOOTPRINT), np.float32)
    for n in numba.prange(count):
        x, y, z = means[n, 0], means[n, 1], means[n, 2]
        c = covariances[n]
        for v in range(view_count):
            m = matrices[v]
            f = result[v, n]
            depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if depth < np.float32(1.0):
                _hide(f)
                continue
            inverse = np.float32(1.0) / depth
            column = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) * inverse
            row = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) * inverse
            ax, ay, az = (
                (m[0, 0] - column * m[2, 0]) * inverse,
                (m[0, 1] - column * m[2, 1]) * inverse,
                (m[0, 2] - column * m[2, 2]) * inverse,
            )
            bx, by, bz = (m[1, 0] - row * m[2, 0]) * inverse, (m[1, 1] - row * m[2, 1]) * inverse, (m[1, 2] - row * m[2, 2]) * inverse
            sxx, sxy, syy = _form(c, ax, ay, az, ax, ay, az), _form(c, ax, ay, az, bx, by, bz), _form(c, bx, by, bz, bx, by, bz)
            determinant = sxx * syy - sxy * sxy
            if determinant < np.float32(1e-12):
                _hide(f)
                continue
            dx, dy, dz = x - sources[v, 0], y - sources[v, 1], z - sources[v, 2]
            magnification = determinants[v] * math.sqrt(dx * dx + dy * dy + dz * dz) * inverse * inverse * inverse
            f[0], f[1] = column, row
            f[2], f[3], f[4] = syy / determinant, -sxy / determinant, sxx / determinant
            f[5] = masses[n] * magnification / (np.float32(2 * math.pi) * math.sqrt(determinant))
            f[6] = np.float32(SUPPORT_SIGMAS) * math.sqrt(syy)
            f[7] = np.float32(SUPPORT_SIGMAS) * math.sqrt(determinant / syy)
    return result


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def forward(prints, rows, columns):
    """Return the images [view, rows, columns + PADDING] that footprints make; what lies in the padding means nothing."""
    view_count, count = prints.shape[0], prints.shape[1]
    pitch = columns + PADDING
    images = np.zeros((view_count, rows, pitch), np.float32)
    pixels = images.ravel()
    bands = (rows + BAND_ROWS - 1) // BAND_ROWS
    for item in numba.prange(view_count * bands):
        v, band = item // bands, item % bands
        top, bottom = band * BAND_ROWS, min(rows, (band + 1) * BAND_ROWS)
        for n in range(count):
            draw(prints[v, n], pixels, v * rows * pitch, columns, top, bottom)
    return images


@numba.njit(fastmath=True, error_model="numpy")
def _chain(f, moments, mean, c, m, source, by_mean, by_covariance):
    """Add one view's share to the gradients by a Gaussian's mean and covariance.

    With J the Jacobian [2, 3] of the pixel by the point, S = J C Jᵀ and the image gradient's moments, the gradient by S is
    G = ½ amplitude (S⁻¹ M₂ S⁻¹ - m₀ S⁻¹); then C gets Jᵀ G J and J gets 2 G J C. J itself moves with the mean:
    dJ = -(du p₂ + J (p₂·dx)) / depth.
    """
    m0, mx, my, mxx, mxy, myy = moments
    x, y, z = mean[0], mean[1], mean[2]
    inverse = np.float32(1.0) / (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
    ax, ay, az = (m[0, 0] - f[0] * m[2, 0]) * inverse, (m[0, 1] - f[0] * m[2, 1]) * inverse, (m[0, 2] - f[0] * m[2, 2]) * inverse
    bx, by, bz = (m[1, 0] - f[1] * m[2, 0]) * inverse, (m[1, 1] - f[1] * m[2, 1]) * inverse, (m[1, 2] - f[1] * m[2, 2]) * inverse

    amplitude, p, q, r = f[5], f[2], f[3], f[4]
    half = np.float32(0.5) * amplitude
    t0, t1, t2, t3 = p * mxx + q * mxy, p * mxy + q * myy, q * mxx + r * mxy, q * mxy + r * myy
    gxx = half * (t0 * p + t1 * q - m0 * p)
    gxy = half * (t0 * q + t1 * r - m0 * q)
    gyy = half * (t2 * q + t3 * r - m0 * r)

    by_covariance[0] += gxx * ax * ax + np.float32(2) * gxy * ax * bx + gyy * bx * bx
    by_covariance[3] += gxx * ay * ay + np.float32(2) * gxy * ay * by + gyy * by * by
    by_covariance[5] += gxx * az * az + np.float32(2) * gxy * az * bz + gyy * bz * bz
    by_covariance[1] += np.float32(2) * (gxx * ax * ay + gxy * (ax * by + ay * bx) + gyy * bx * by)
    by_covariance[2] += np.float32(2) * (gxx * ax * az + gxy * (ax * bz + az * bx) + gyy * bx * bz)
    by_covariance[4] += np.float32(2) * (gxx * ay * az + gxy * (ay * bz + az * by) + gyy * by * bz)

    # 2 G J C, row by row: the gradient by the two rows of J
    ux, uy, uz = gxx * ax + gxy * bx, gxx * ay + gxy * by, gxx * az + gxy * bz
    vx, vy, vz = gxy * ax + gyy * bx, gxy * ay + gyy * by, gxy * az + gyy * bz
    jux, juy, juz = _times(c, ux, uy, uz)
    jvx, jvy, jvz = _times(c, vx, vy, vz)

    # du p₂ and J (p₂·dx): how those rows turn with the mean
    u_column = jux * m[2, 0] + juy * m[2, 1] + juz * m[2, 2]
    v_row = jvx * m[2, 0] + jvy * m[2, 1] + jvz * m[2, 2]
    along = jux * ax + juy * ay + juz * az + jvx * bx + jvy * by + jvz * bz
    by_column = amplitude * (p * mx + q * my) - np.float32(2) * inverse * u_column
    by_row = amplitude * (q * mx + r * my) - np.float32(2) * inverse * v_row

    # the magnification |x - source| / depth³
    dx, dy, dz = x - source[0], y - source[1], z - source[2]
    radial = m0 * amplitude / (dx * dx + dy * dy + dz * dz)
    axial = -inverse * (np.float32(3) * m0 * amplitude + np.float32(2) * along)
    by_mean[0] += ax * by_column + bx * by_row + radial * dx + axial * m[2, 0]
    by_mean[1] += ay * by_column + by * by_row + radial * dy + axial * m[2, 1]
    by_mean[2] += az * by_column + bz * by_row + radial * dz + axial * m[2, 2]


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def backward(prints, gradient, means, covariances, masses, matrices, sources):
    """Return the gradients by means [N, 3], covariances [N, 6] (off-diagonal entries count twice) and masses [N].

    Args:
        prints: As `footprints` returns them.
        gradient: Gradient by the images, [view, rows, columns + PADDING]; the padding must be zero.
        means, covariances, masses, matrices, sources: As for `footprints`.
    """
    view_count, count = prints.shape[0], prints.shape[1]
    rows, pitch = gradient.shape[1], gradient.shape[2]
    columns = pitch - PADDING
    pixels = gradient.ravel()
    by_mean = np.zeros((count, 3), np.float32)
    by_covariance = np.zeros((count, 6), np.float32)
    by_mass = np.zeros(count, np.float32)
    for chunk in numba.prange((count + CHUNK - 1) // CHUNK):
        sums = sums_for(columns)
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            for v in range(view_count):
                f = prints[v, n]
                m = moments(f, pixels, v * rows * pitch, columns, rows, sums)
                if f[5] > np.float32(0.0):
                    by_mass[n] += m[0] * f[5] / masses[n]
                    _chain(f, m, means[n], covariances[n], matrices[v], sources[v], by_mean[n], by_covariance[n])
    return by_mean, by_covariance, by_mass
