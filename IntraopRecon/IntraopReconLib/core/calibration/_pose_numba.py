"""Poses from three points, their scores and their refinement, as numba kernels in camera coordinates (z = 1 is the image plane)."""

from __future__ import annotations

import math

import numba
import numpy as np

KEPT_ANGLE_COS = math.cos(math.radians(4.0))  # hypotheses nearer to each other than this are one


@numba.njit(error_model="numpy", cache=True)
def _cubic_root(b, c, d):
    """Return the largest real root of x³ + b x² + c x + d."""
    q, r = (3 * c - b * b) / 9, (9 * b * c - 27 * d - 2 * b**3) / 54
    discriminant = q**3 + r * r
    if discriminant > 0:
        root = math.sqrt(discriminant)
        return np.cbrt(r + root) + np.cbrt(r - root) - b / 3
    if q == 0:
        return -b / 3
    return 2 * math.sqrt(-q) * math.cos(math.acos(max(-1.0, min(1.0, r / math.sqrt(-(q**3))))) / 3) - b / 3


@numba.njit(error_model="numpy", cache=True)
def _quartic_roots(a4, a3, a2, a1, a0, roots):
    """Write the real roots of a quartic (Ferrari); pairs that noise made barely complex count as double. Return their number."""
    if abs(a4) < 1e-14 * (abs(a3) + abs(a2) + abs(a1) + abs(a0)):
        return 0
    b, c, d, e = a3 / a4, a2 / a4, a1 / a4, a0 / a4
    p, q, r = c - 3 * b * b / 8, b**3 / 8 - b * c / 2 + d, e - b * d / 4 + b * b * c / 16 - 3 * b**4 / 256
    y = _cubic_root(p, p * p / 4 - r, -q * q / 8)
    if y <= 0:
        return 0
    w = math.sqrt(2 * y)
    count = 0
    for sign in (1.0, -1.0):
        inner = -(2 * p + 2 * y + sign * 2 * q / w)
        if inner > -1e-3 * (abs(p) + y):
            inner = math.sqrt(max(0.0, inner))
            for side in (1.0, -1.0):
                roots[count] = (sign * w + side * inner) / 2 - b / 4
                count += 1
    return count


@numba.njit(error_model="numpy", cache=True)
def _polished(s, squares, cosines):
    """Newton's method on the law of cosines for the three distances; return whether it converged to distances above zero."""
    for _ in range(4):
        s1, s2, s3 = s[0], s[1], s[2]
        e1 = s2 * s2 + s3 * s3 - 2 * s2 * s3 * cosines[0] - squares[0]
        e2 = s1 * s1 + s3 * s3 - 2 * s1 * s3 * cosines[1] - squares[1]
        e3 = s1 * s1 + s2 * s2 - 2 * s1 * s2 * cosines[2] - squares[2]
        j12, j13 = s2 - s3 * cosines[0], s3 - s2 * cosines[0]
        j21, j23 = s1 - s3 * cosines[1], s3 - s1 * cosines[1]
        j31, j32 = s1 - s2 * cosines[2], s2 - s1 * cosines[2]
        determinant = 2 * (j12 * j23 * j31 + j13 * j21 * j32)
        if abs(determinant) < 1e-300:
            break
        s[0] -= (-j23 * j32 * e1 + j13 * j32 * e2 + j12 * j23 * e3) / determinant
        s[1] -= (j23 * j31 * e1 - j13 * j31 * e2 + j13 * j21 * e3) / determinant
        s[2] -= (j21 * j32 * e1 + j12 * j31 * e2 - j12 * j21 * e3) / determinant
    s1, s2, s3 = s[0], s[1], s[2]
    error = abs(s2 * s2 + s3 * s3 - 2 * s2 * s3 * cosines[0] - squares[0]) / squares[0]
    error += abs(s1 * s1 + s3 * s3 - 2 * s1 * s3 * cosines[1] - squares[1]) / squares[1]
    error += abs(s1 * s1 + s2 * s2 - 2 * s1 * s2 * cosines[2] - squares[2]) / squares[2]
    return s1 > 0 and s2 > 0 and s3 > 0 and error < 0.02


@numba.njit(error_model="numpy", cache=True)
def _frame(p, frame):
    """Write the orthonormal frame of a triangle [3, 3] as rows; return False where it is none."""
    ux, uy, uz = p[1, 0] - p[0, 0], p[1, 1] - p[0, 1], p[1, 2] - p[0, 2]
    vx, vy, vz = p[2, 0] - p[0, 0], p[2, 1] - p[0, 1], p[2, 2] - p[0, 2]
    length = math.sqrt(ux * ux + uy * uy + uz * uz)
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    normal = math.sqrt(nx * nx + ny * ny + nz * nz)
    if not normal > 1e-6 * length * length:
        return False
    ux, uy, uz, nx, ny, nz = ux / length, uy / length, uz / length, nx / normal, ny / normal, nz / normal
    frame[0, 0], frame[0, 1], frame[0, 2] = ux, uy, uz
    frame[1, 0], frame[1, 1], frame[1, 2] = ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux
    frame[2, 0], frame[2, 1], frame[2, 2] = nx, ny, nz
    return True


@numba.njit(error_model="numpy", cache=True)
def poses_from_three(world, rays, poses):
    """Write the rigid poses [4, 3, 4] that bring three points onto three rays.

    Args:
        world: [3, 3], a point a row.
        rays: [3, 3], unit vectors, a ray a row.
        poses: Written: camera from world, rotation beside translation.

    Returns:
        Number of poses, 0 to 4.

    Source: Grunert's solution as in Haralick et al., International Journal of Computer Vision 13 (1994) 331, equations 8 and 9.
    """
    squares, cosines = np.empty(3), np.empty(3)
    for n in range(3):
        i, j = (n + 1) % 3, (n + 2) % 3
        squares[n] = (world[i, 0] - world[j, 0]) ** 2 + (world[i, 1] - world[j, 1]) ** 2 + (world[i, 2] - world[j, 2]) ** 2
        cosines[n] = rays[i, 0] * rays[j, 0] + rays[i, 1] * rays[j, 1] + rays[i, 2] * rays[j, 2]
    frame_world = np.empty((3, 3))
    if not (squares[1] > 0 and _frame(world, frame_world)):
        return 0
    a, b, c, ca, cb, cg = squares[0], squares[1], squares[2], cosines[0], cosines[1], cosines[2]
    k, m = (a - c) / b, (a + c) / b
    a4 = (k - 1) ** 2 - 4 * c / b * ca * ca
    a3 = 4 * (k * (1 - k) * cb - (1 - m) * ca * cg + 2 * c / b * ca * ca * cb)
    a2 = 2 * (k * k - 1 + 2 * k * k * cb * cb + 2 * (b - c) / b * ca * ca - 4 * m * ca * cb * cg + 2 * (b - a) / b * cg * cg)
    a1 = 4 * (-k * (1 + k) * cb + 2 * a / b * cg * cg * cb - (1 - m) * ca * cg)
    a0 = (1 + k) ** 2 - 4 * a / b * cg * cg
    roots, s = np.empty(4), np.empty(3)
    camera, frame = np.empty((3, 3)), np.empty((3, 3))
    count = 0
    for n in range(_quartic_roots(a4, a3, a2, a1, a0, roots)):
        v = roots[n]
        u = ((k - 1) * v * v - 2 * k * cb * v + 1 + k) / (2 * (cg - v * ca))
        scale = 1 + v * v - 2 * v * cb
        if not (v > 0 and u > 0 and scale > 0):
            continue
        s[0] = math.sqrt(b / scale)
        s[1], s[2] = u * s[0], v * s[0]
        if not _polished(s, squares, cosines):
            continue
        for i in range(3):
            for j in range(3):
                camera[i, j] = s[i] * rays[i, j]
        if not _frame(camera, frame):
            continue
        for i in range(3):
            for j in range(3):
                poses[count, i, j] = frame[0, i] * frame_world[0, j] + frame[1, i] * frame_world[1, j] + frame[2, i] * frame_world[2, j]
            turned = poses[count, i, 0] * world[0, 0] + poses[count, i, 1] * world[0, 1] + poses[count, i, 2] * world[0, 2]
            poses[count, i, 3] = camera[0, i] - turned
        count += 1
    return count


@numba.njit(error_model="numpy", cache=True)
def _score(pose, beads, plane, kinds, limit, worst):
    """Return the truncated sum of squared distances from the beads to their nearest points, and how many are within `limit`."""
    cost, inliers = 0.0, 0
    bead_kinds, point_kinds = kinds
    limit_squared = limit * limit
    for b in range(len(beads)):
        x, y, z = beads[b, 0], beads[b, 1], beads[b, 2]
        depth = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
        if depth <= 0:
            return math.inf, 0
        u = (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]) / depth
        v = (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]) / depth
        nearest = limit_squared
        for p in range(len(plane)):
            if bead_kinds[b] == 0 or point_kinds[p] == 0 or bead_kinds[b] == point_kinds[p]:
                nearest = min(nearest, (plane[p, 0] - u) ** 2 + (plane[p, 1] - v) ** 2)
        cost += nearest
        inliers += nearest < limit_squared
        if cost >= worst:
            return math.inf, 0
    return cost, inliers


@numba.njit(error_model="numpy", cache=True)
def _insert(pose, cost, inliers, kept, costs, counts):
    """Put a pose among the kept ones, best first; of poses that are nearly one only the better stays."""
    last = len(costs) - 1
    slot = last
    for n in range(last + 1):
        if costs[n] == math.inf:
            slot = n
            break
        trace = 0.0
        for i in range(3):
            for j in range(3):
                trace += pose[i, j] * kept[n, i, j]
        near = abs(pose[2, 3] - kept[n, 2, 3]) < 0.05 * kept[n, 2, 3]
        for i in range(2):
            near &= abs(pose[i, 3] - kept[n, i, 3]) < 0.01 * kept[n, 2, 3]
        if near and (trace - 1) / 2 > KEPT_ANGLE_COS:
            if cost >= costs[n]:
                return
            slot = n
            break
    while slot > 0 and costs[slot - 1] > cost:
        kept[slot], costs[slot], counts[slot] = kept[slot - 1], costs[slot - 1], counts[slot - 1]
        slot -= 1
    kept[slot], costs[slot], counts[slot] = pose, cost, inliers


@numba.njit(error_model="numpy", cache=True)
def search(beads, plane, kinds, triplets, gates, kept):
    """Try triplets of points against all ordered triplets of beads and keep the poses that explain the most.

    Args:
        beads: [B, 3] about their centroid.
        plane: Points on the plane z = 1, [P, 2].
        kinds: Of the beads [B] and of the points [P]; 0 matches every kind.
        triplets: Of points, [N, 3], in the order to try.
        gates: Rotation expected [3, 3], cosine of the largest angle to it, least and largest depth of the centroid, distance on the plane
            within which a bead is explained, fewest beads, chance to miss the best pose.
        kept: Number of poses to keep.

    Returns:
        Poses [K, 3, 4], costs [K] (infinite where there is none), numbers of explained beads [K], number of triplets tried.
    """
    expected, least_cos, nearest, furthest, limit, fewest, chance = gates
    poses, costs, counts = np.zeros((kept, 3, 4)), np.full(kept, math.inf), np.zeros(kept, np.int64)
    bead_kinds, point_kinds = kinds
    found, world, rays = np.empty((4, 3, 4)), np.empty((3, 3)), np.empty((3, 3))
    directions = np.empty((len(plane), 3))
    for p in range(len(plane)):
        length = math.sqrt(plane[p, 0] ** 2 + plane[p, 1] ** 2 + 1)
        directions[p, 0], directions[p, 1], directions[p, 2] = plane[p, 0] / length, plane[p, 1] / length, 1 / length
    total, number = len(plane), len(beads)
    all_triplets = total * (total - 1) * (total - 2)
    for tried in range(len(triplets)):
        a, b, c = triplets[tried, 0], triplets[tried, 1], triplets[tried, 2]
        rays[0], rays[1], rays[2] = directions[a], directions[b], directions[c]
        for i in range(number):
            if bead_kinds[i] * point_kinds[a] != 0 and bead_kinds[i] != point_kinds[a]:
                continue
            for j in range(number):
                if j == i or (bead_kinds[j] * point_kinds[b] != 0 and bead_kinds[j] != point_kinds[b]):
                    continue
                for k in range(number):
                    if k in (i, j) or (bead_kinds[k] * point_kinds[c] != 0 and bead_kinds[k] != point_kinds[c]):
                        continue
                    world[0], world[1], world[2] = beads[i], beads[j], beads[k]
                    for n in range(poses_from_three(world, rays, found)):
                        pose = found[n]
                        if not nearest <= pose[2, 3] <= furthest:
                            continue
                        trace = 0.0
                        for r in range(3):
                            trace += expected[r, 0] * pose[r, 0] + expected[r, 1] * pose[r, 1] + expected[r, 2] * pose[r, 2]
                        if (trace - 1) / 2 < least_cos:
                            continue
                        cost, inliers = _score(pose, beads, plane, kinds, limit, costs[-1])
                        if inliers >= 4:
                            _insert(pose, cost, inliers, poses, costs, counts)
        sure = max(fewest, counts[0] - 1)
        share = sure * (sure - 1) * (sure - 2) / all_triplets
        if costs[0] < math.inf and (share >= 1 or (tried + 1) * math.log(1 - share) < math.log(chance)):
            return poses, costs, counts, tried + 1
    return poses, costs, counts, len(triplets)


@numba.njit(error_model="numpy", cache=True)
def _weighted(pose, beads, plane, scale, normal, gradient):
    """Sum up the normal equations of a pose under Cauchy's loss; return the cost, infinite where a bead lies behind the source."""
    normal[:], gradient[:] = 0.0, 0.0
    row, cost = np.empty((2, 6)), 0.0
    for n in range(len(beads)):
        x = pose[0, 0] * beads[n, 0] + pose[0, 1] * beads[n, 1] + pose[0, 2] * beads[n, 2]
        y = pose[1, 0] * beads[n, 0] + pose[1, 1] * beads[n, 1] + pose[1, 2] * beads[n, 2]
        z = pose[2, 0] * beads[n, 0] + pose[2, 1] * beads[n, 1] + pose[2, 2] * beads[n, 2]
        px, py, pz = x + pose[0, 3], y + pose[1, 3], z + pose[2, 3]
        if pz <= 0:
            return math.inf
        u, v = px / pz, py / pz
        error = (u - plane[n, 0], v - plane[n, 1])
        square = (error[0] ** 2 + error[1] ** 2) / (scale * scale)
        cost += math.log1p(square)
        weight = 1 / (1 + square)
        row[0, 0], row[0, 1], row[0, 2], row[0, 3], row[0, 4], row[0, 5] = -u * y / pz, (z + u * x) / pz, -y / pz, 1 / pz, 0.0, -u / pz
        row[1, 0], row[1, 1], row[1, 2], row[1, 3], row[1, 4], row[1, 5] = -(z + v * y) / pz, v * x / pz, x / pz, 0.0, 1 / pz, -v / pz
        for r in range(2):
            for i in range(6):
                gradient[i] += weight * row[r, i] * error[r]
                for j in range(6):
                    normal[i, j] += weight * row[r, i] * row[r, j]
    return cost


@numba.njit(error_model="numpy", cache=True)
def refined(pose, beads, plane, scale):
    """Refine a pose on matched beads (Levenberg–Marquardt, Cauchy's loss).

    Args:
        pose: [3, 4].
        beads: [n, 3] about a point near them all.
        plane: [n, 2] on the plane z = 1.
        scale: Of the loss, on the plane.

    Returns:
        The pose, [3, 4].
    """
    normal, gradient = np.empty((6, 6)), np.empty(6)
    next_normal, next_gradient = np.empty((6, 6)), np.empty(6)
    cost = _weighted(pose, beads, plane, scale, normal, gradient)
    damping = 1e-4
    for _ in range(40):
        damped = normal.copy()
        for i in range(6):
            damped[i, i] += damping * normal[i, i] + 1e-15
        step = -np.linalg.solve(damped, gradient)
        angle = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
        turn = np.eye(3)
        if angle > 0:
            x, y, z = step[0] / angle, step[1] / angle, step[2] / angle
            cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
            turn += math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
        trial = pose.copy()
        trial[:, :3] = turn @ np.ascontiguousarray(pose[:, :3])
        trial[:, 3] += step[3:]
        next_cost = _weighted(trial, beads, plane, scale, next_normal, next_gradient)
        if next_cost <= cost:
            done = cost - next_cost < 1e-10 * (cost + 1e-12)
            pose, cost = trial, next_cost
            normal[:], gradient[:] = next_normal, next_gradient
            damping *= 0.1
            if done:
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    return pose
