"""What corruptions do to an image: by hand, or by a slow program of their own."""

import colorsys
from typing import get_args

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from experiment.config.schema import CorruptionName
from experiment.core.seeding import Stream
from experiment.data.corrupted_images import Corruption
from experiment.data.corruptions.blur import disk
from experiment.data.corruptions.kinds import KINDS
from experiment.data.corruptions.pixels import as_bytes, moved
from experiment.data.corruptions.spatter import MUD, WATER, edges, light_of
from experiment.data.corruptions.weather import plasma

NAMES = get_args(CorruptionName)
# Kinds of which the benchmark's numbers do not grow with the severity: it swaps one effect for
# another.
UNEVEN = {"glass_blur", "motion_blur", "spatter", "saturate", "elastic_transform"}
GREY_WEIGHTS = (0.299, 0.587, 0.114)


def corrupted(pixels: numpy.ndarray, name: str, strength) -> numpy.ndarray:
    """Pixels on the scale [0, 1] after a corruption, neither clipped nor rounded."""
    return KINDS[name].apply(pixels, strength, numpy.random.default_rng(0))


def grey(value: float, side: int = 100) -> numpy.ndarray:
    return numpy.full((1, side, side), value)


def point(side: int = 41) -> numpy.ndarray:
    """One white pixel in the middle of a black image."""
    pixels = numpy.zeros((1, side, side))
    pixels[0, side // 2, side // 2] = 1
    return pixels


def noise_image(*shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(1).random(shape)


def photograph(side: int) -> torch.Tensor:
    """A part of a photograph of flowers, as bytes [3, side, side]."""
    whole = Image.fromarray(load_sample_image("flower.jpg")).crop((100, 0, 527, 427))
    return torch.from_numpy(numpy.array(whole.resize((side, side)))).permute(2, 0, 1).contiguous()


def test_the_names_of_a_file_are_those_of_the_kinds():
    assert list(KINDS) == list(NAMES)
    for kind in KINDS.values():
        assert len(kind.for_small) == len(kind.for_large) == 5


def test_strengths_are_those_of_the_benchmark_for_the_size_of_the_image():
    noise, jpeg = KINDS["gaussian_noise"], KINDS["jpeg_compression"]
    assert [noise.strength(severity, 32, 32) for severity in (1, 5)] == [0.04, 0.10]
    assert [noise.strength(severity, 224, 224) for severity in (1, 5)] == [0.08, 0.38]
    assert [jpeg.strength(3, *size) for size in ((8, 8), (64, 300), (65, 300))] == [58, 58, 15]


def test_noise_has_the_mean_and_the_deviation_that_it_should_have():
    def moments(name, value, strength):
        change = corrupted(grey(value), name, strength) - value
        return change.mean(), change.std()

    # Of 10,000 pixels the mean is off by 1% of the deviation, and the deviation by 0.7% of itself.
    assert moments("gaussian_noise", 0.5, 0.1) == pytest.approx((0, 0.1), abs=4e-3)
    assert moments("speckle_noise", 0.5, 0.2) == pytest.approx((0, 0.1), abs=4e-3)
    assert moments("shot_noise", 0.5, 50) == pytest.approx((0, (0.5 / 50) ** 0.5), abs=4e-3)
    assert moments("uniform_noise", 0.5, 0.3) == pytest.approx((0, 0.3 / 3**0.5), abs=8e-3)


def test_impulse_noise_makes_a_share_of_the_pixels_black_or_white():
    changed = corrupted(grey(0.5), "impulse_noise", 0.2)
    assert set(numpy.unique(changed)) == {0, 0.5, 1}
    assert [(changed == value).mean() for value in (0, 1)] == pytest.approx([0.1, 0.1], abs=0.01)


def test_contrast_and_brightness_by_hand():
    image = numpy.array([[[0.0, 1.0]], [[0.2, 0.4]], [[0.0, 0.5]]])  # 3 channels of 1x2 pixels
    expected = [[[0.25, 0.75]], [[0.25, 0.35]], [[0.125, 0.375]]]
    assert corrupted(image, "contrast", 0.5) == pytest.approx(numpy.array(expected))
    # The largest channel of the first pixel grows from 0.2 to 0.5; that of the second is 1 already.
    brighter = [[[0.0, 1.0]], [[0.5, 0.4]], [[0.0, 0.5]]]
    assert corrupted(image, "brightness", 0.3) == pytest.approx(numpy.array(brighter))
    assert corrupted(grey(0), "brightness", 0.3) == pytest.approx(0.3)  # black becomes grey
    assert corrupted(grey(0.9), "brightness", 0.3) == pytest.approx(1)


def test_gaussian_blur_is_a_gaussian():
    point = numpy.zeros((1, 41, 41))
    point[0, 20, 20] = 1
    blurred = corrupted(point, "gaussian_blur", 2.0)[0]
    assert blurred.sum() == pytest.approx(1)
    assert blurred[20, 22] / blurred[20, 20] == pytest.approx(numpy.exp(-0.5))
    assert blurred[22, 22] / blurred[20, 20] == pytest.approx(numpy.exp(-1))


def test_zoom_blur_averages_with_the_enlarged_centre():
    ramp = numpy.linspace(0, 1, 4)[None, None].repeat(4, axis=1)  # grows from left to right
    # Two factors, 1 and 2: the inner two pixels, enlarged to four by linear interpolation.
    enlarged = numpy.linspace(1 / 3, 2 / 3, 4)
    expected = (2 * ramp[0, 0] + enlarged) / 3
    assert corrupted(ramp, "zoom_blur", (2.5, 1))[0, 2] == pytest.approx(expected)


def test_pixelate_averages_blocks():
    image = numpy.array([[[0, 255, 51, 51]] * 4]) / 255
    halved = corrupted(image, "pixelate", 0.5)
    assert halved[0, 0] * 255 == pytest.approx([128, 128, 51, 51])


def test_jpeg_is_what_pillow_writes(tmp_path):
    pixels = numpy.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.jpg", quality=40)
    expected = numpy.asarray(Image.open(tmp_path / "image.jpg"))
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    found = Corruption("jpeg_compression", 5, Stream(0))(image, torch.ones(3))
    assert torch.equal(found, torch.from_numpy(expected.copy()).permute(2, 0, 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 70, 90), (2, 5, 1), (3, 1, 1), (3, 17, 33)]
)
def test_images_of_any_shape_can_be_corrupted(name, shape):
    size = numpy.prod(shape)
    image = torch.arange(size).mul(37).remainder(256).to(torch.uint8).reshape(shape)
    for severity in (1, 2, 3, 4, 5):
        changed = Corruption(name, severity, Stream(0))(image, torch.ones(shape[0]))
        assert changed.shape == image.shape and torch.isfinite(changed.double()).all()
        assert changed.dtype == (torch.float32 if name == "uniform_noise" else torch.uint8)
    if size > 500 and (name, shape[0]) != ("saturate", 1):  # there are no colours to be saturated
        assert not torch.equal(changed.double(), image.double())


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_changes_more_if_it_is_more_severe(name, side):
    image = photograph(side)
    changes = [
        (Corruption(name, severity, Stream(0))(image, torch.ones(3)).double() - image).abs().mean()
        for severity in (1, 2, 3, 4, 5)
    ]
    if name in UNEVEN:
        assert all(0.3 < change < 100 for change in changes)
    else:
        assert 0 < changes[0] < changes[4]
        assert changes == sorted(changes) or (name, side) == ("fog", 224)  # some clouds are thin


@pytest.mark.parametrize(
    "name",
    [
        "gaussian_blur",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "elastic_transform",
        "contrast",
        "pixelate",
    ],
)
def test_an_image_of_one_colour_stays_as_it_is(name):
    image = torch.full((3, 9, 9), 77, dtype=torch.uint8)
    assert torch.equal(Corruption(name, 5, Stream(0))(image, torch.ones(3)), image)


@pytest.mark.parametrize(
    "name",
    ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "fog", "elastic_transform"],
)
@pytest.mark.parametrize("severity", [1, 4])
def test_a_grey_image_in_one_channel_is_corrupted_as_the_same_in_three(name, severity):
    kind, image = KINDS[name], noise_image(1, 19, 24)
    strength = kind.strength(severity, 19, 24)
    one, three = (corrupted(image.repeat(count, 0), name, strength) for count in (1, 3))
    assert three == pytest.approx(one.repeat(3, 0))


def test_pixels_are_clipped_and_rounded():
    pixels = numpy.array([-0.1, 0.0, 76.4 / 255, 76.6 / 255, 1.0, 1.7])
    assert as_bytes(pixels).tolist() == [0, 0, 76, 77, 255, 255]
    every = numpy.arange(256)
    assert as_bytes(every / 255).tolist() == every.tolist()


# Blur.


def test_a_disk_has_equal_weights_within_its_radius():
    plain = disk(3, 0.1)
    assert plain.shape == (17, 17) and plain.sum() == pytest.approx(1)
    assert numpy.count_nonzero(plain > 1e-9) == 29  # pixels within 3 of the centre
    assert plain.max() == pytest.approx(1 / 29) and plain[8, 11] == pytest.approx(1 / 29)
    assert plain[10, 11] < 1e-9  # 3 right and 2 down
    assert (plain == plain.T).all() and (plain == plain[::-1]).all()
    # Softened at the edge of its grid, the largest gains 1%, as in the benchmark.
    assert disk(10, 0.5).shape == (21, 21) and 1.01 < disk(10, 0.5).sum() < 1.011


def test_a_disk_of_one_pixel_is_softened_by_a_gaussian_of_3_by_3():
    weight = numpy.exp(-1 / (2 * 0.4**2))
    row = numpy.array([weight, 1, weight]) / (1 + 2 * weight)
    soft = disk(0.3, 0.4)
    assert soft[7:10, 7:10] == pytest.approx(numpy.outer(row, row)) and soft.sum() == (
        pytest.approx(1)
    )


def test_defocus_blur_averages_over_the_disk_in_an_image_that_is_mirrored():
    image, weights = noise_image(2, 9, 11), disk(1.5, 0.1)
    expected = numpy.zeros_like(image)
    for row, column in numpy.ndindex(9, 11):
        for down in (-2, -1, 0, 1, 2):
            for right in (-2, -1, 0, 1, 2):
                source = 8 - abs(8 - abs(row + down)), 10 - abs(10 - abs(column + right))
                weight = weights[8 + down, 8 + right]
                expected[:, row, column] += weight * image[:, source[0], source[1]]
    assert corrupted(image, "defocus_blur", (1.5, 0.1)) == pytest.approx(expected)


@pytest.mark.parametrize("distance, times", [(1, 1), (1, 2), (3, 2)])
def test_glass_blur_copies_near_pixels_one_after_the_other(distance, times):
    image = noise_image(3, 14, 11)
    expected, random = image.copy(), numpy.random.default_rng(0)
    places = [
        (row, column)
        for row in range(14 - distance, distance, -1)
        for column in range(11 - distance, distance, -1)
    ]
    for _ in range(times):
        down, right = random.integers(-distance, distance, size=(2, len(places)))
        for index, (row, column) in enumerate(places):
            expected[:, row, column] = expected[:, row + down[index], column + right[index]]
    changed = corrupted(image, "glass_blur", (0, distance, times))  # without any blur
    assert (changed == expected).all()
    assert (changed[:, : distance + 1] == image[:, : distance + 1]).all()
    assert not (changed == image).all()


def test_glass_blur_blurs_before_and_after():
    image = noise_image(1, 4, 4)  # too small for pixels 4 away
    twice = corrupted(corrupted(image, "gaussian_blur", 0.8), "gaussian_blur", 0.8)
    assert corrupted(image, "glass_blur", (0.8, 4, 2)) == pytest.approx(twice)


@pytest.mark.parametrize(
    "degrees, step", [(0, (0, -1)), (90, (-1, 0)), (-90, (1, 0)), (45, (-1, -1)), (-135, (1, 1))]
)
def test_motion_leaves_half_of_a_gaussian_behind(degrees, step):
    trace = moved(point(), 3, 2.0, degrees)[0]
    assert trace.sum() == pytest.approx(1)
    # Along a diagonal, seven pixels of the line are on five of the image.
    steps = [round(index / 2**0.5) if all(step) else index for index in range(7)]
    weights = numpy.exp(-(numpy.arange(7) ** 2) / 8)
    expected = numpy.zeros((41, 41))
    for index, weight in zip(steps, weights / weights.sum()):
        expected[20 + index * step[0], 20 + index * step[1]] += weight
    assert trace == pytest.approx(expected)


def test_motion_sees_the_pixels_at_an_edge_beyond_it():
    ramp = numpy.array([[[0.0, 0.5, 1.0]]])
    weights = numpy.exp(-(numpy.arange(5) ** 2) / 2)
    weights /= weights.sum()
    expected = [0.5 * weights[1] + weights[2:].sum(), 0.5 * weights[0] + weights[1:].sum(), 1]
    assert moved(ramp, 2, 1.0, 0)[0, 0] == pytest.approx(expected)


def test_motion_blur_is_at_most_45_degrees_up_or_down():
    slopes = set()
    for seed in range(40):
        trace = KINDS["motion_blur"].apply(point(), (9, 2.5), numpy.random.default_rng(seed))[0]
        rows, columns = numpy.nonzero(trace)
        assert (columns <= 20).all() and (abs(rows - 20) <= 20 - columns).all()
        slopes.add(numpy.sign(rows - 20).sum() > 0)
    assert slopes == {True, False}


# Weather.


def slow_plasma(side: int, decay: float, seed: int) -> numpy.ndarray:
    """The diamond-square algorithm, point by point."""
    random = numpy.random.default_rng(seed)
    heights, step, roughness = numpy.zeros((side, side)), side, 1.0
    while step > 1:
        half = step // 2
        grid = range(0, side, step)
        for first, second, around in (
            (half, half, [(-half, -half), (-half, half), (half, -half), (half, half)]),
            (0, half, [(-half, 0), (half, 0), (0, -half), (0, half)]),
            (half, 0, [(-half, 0), (half, 0), (0, -half), (0, half)]),
        ):
            for row in grid:
                for column in grid:
                    place = row + first, column + second
                    near = [
                        heights[(place[0] + down) % side, (place[1] + right) % side]
                        for down, right in around
                    ]
                    noise = random.uniform(-roughness, roughness)
                    heights[place] = sum(near) / 4 + noise
        step, roughness = half, roughness / decay**2
    return (heights - heights.min()) / (heights.max() - heights.min())


def test_clouds_are_a_plasma_fractal():
    clouds = plasma(30, 1.7, numpy.random.default_rng(3))
    assert clouds == pytest.approx(slow_plasma(32, 1.7, 3))
    assert clouds.min() == 0 and clouds.max() == 1
    smooth = plasma(32, 3, numpy.random.default_rng(3))
    assert abs(numpy.diff(smooth)).mean() < abs(numpy.diff(clouds)).mean()
    assert plasma(1, 2, numpy.random.default_rng(0)).shape == (2, 2)


def test_fog_adds_clouds_and_keeps_the_largest_value():
    foggy = corrupted(grey(0.6, 64), "fog", (1.5, 2))
    assert foggy.max() == pytest.approx(0.6)  # (0.6 + 1.5) * 0.6 / (0.6 + 1.5)
    assert foggy.min() == pytest.approx(0.6 * 0.6 / 2.1)
    assert (corrupted(grey(0.0, 16), "fog", (1.5, 2)) == 0).all()


def test_snow_whitens_dark_pixels_and_adds_flakes_on_both_sides():
    image = numpy.array([0.2, 0.4, 0.9])[:, None, None] * numpy.ones((3, 16, 16))
    whitest = 1.5 * numpy.dot(GREY_WEIGHTS, [0.2, 0.4, 0.9]) + 0.5
    expected = 0.8 * image + 0.2 * numpy.maximum(image, whitest)
    assert corrupted(image, "snow", (0.1, 0, 2, 0.5, 8, 3, 0.8)) == pytest.approx(expected)
    flakes = corrupted(image, "snow", (0.1, 0.4, 2, 0.5, 8, 3, 0.8)) - expected
    assert flakes.min() > -1e-9 and flakes.max() > 0.1
    assert flakes == pytest.approx(flakes[:, ::-1, ::-1])
    blizzard = corrupted(image, "snow", (0.7, 0, 2, 0.5, 8, 3, 0.8)) - expected
    assert blizzard == pytest.approx(1.4)  # all pixels are flakes of 0.7, twice


# Drops.


def test_without_drops_an_image_stays_as_it_is():
    image = noise_image(3, 12, 12)
    for is_mud in (False, True):
        assert (corrupted(image, "spatter", (0.5, 0, 1, 0.7, 0.5, is_mud)) == image).all()


def test_mud_covers_an_image_and_water_brightens_it():
    image = noise_image(3, 40, 40) / 2
    covered = corrupted(image, "spatter", (0.8, 0, 1, 0.7, 0.5, True))
    assert covered == pytest.approx(numpy.array(MUD)[:, None, None] * numpy.ones_like(image))
    assert corrupted(image[:1], "spatter", (0.8, 0, 1, 0.7, 0.5, True)) == pytest.approx(
        numpy.dot(GREY_WEIGHTS, MUD)
    )
    wet = corrupted(image, "spatter", (0.65, 0.1, 0.7, 0.7, 0.5, False)) - image
    assert wet.min() == pytest.approx(0, abs=1e-12)
    for channel, colour in zip(wet, WATER):  # the brightest pixel has half of the water's colour
        assert channel.max() == pytest.approx(0.5 * colour)
    assert 0.01 < (wet[0] > 1e-6).mean() < 0.2


def test_edges_are_where_the_gradient_is_the_largest():
    step = numpy.zeros((8, 10), dtype=numpy.uint8)
    step[:, 5:] = 100
    expected = numpy.zeros((8, 10), dtype=bool)
    expected[:, 4] = True  # of the two columns with the same gradient, the first
    assert (edges(step) == expected).all() and (edges(step.T) == expected.T).all()
    step[:, 5:] = 30  # a gradient of 120 is weak
    assert not edges(step).any()
    step[:3, 5:] = 100  # and is an edge only if it goes on from a strong one
    assert edges(step)[5:, 4].all()


def test_drops_of_water_reflect_what_opencv_computes_for_them():
    liquid = numpy.zeros((9, 9))
    liquid[2:6, 2:7], liquid[3, 3], liquid[5, 5:7] = 0.8, 0.9, 0
    # By OpenCV 5.0: Canny, exact distanceTransform, threshold, blur, equalizeHist, filter2D, blur.
    expected = numpy.zeros((9, 9))
    expected[2:6, 2:7] = [
        [0, 0, 3672, 21012, 36516],
        [0, 0, 5712, 23052, 40392],
        [5712, 11628, 23052, 34680, 46308],
        [23052, 28968, 40392, 0, 0],
    ]
    assert light_of(liquid) == pytest.approx(expected / 46308)


# Colours, and elastic images.


@pytest.mark.parametrize("strength", [(0.3, 0), (1.5, 0), (2.5, 0.2), (20, 0.2)])
def test_saturation_is_that_of_hue_saturation_and_value(strength):
    image = noise_image(3, 6, 7)
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = 0.4, 0, 1  # grey, black and white
    expected = numpy.empty_like(image)
    for row, column in numpy.ndindex(6, 7):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[:, row, column])
        saturation = min(strength[0] * saturation + strength[1], 1)
        expected[:, row, column] = colorsys.hsv_to_rgb(hue, saturation, value)
    assert corrupted(image, "saturate", strength) == pytest.approx(expected)


def test_an_elastic_image_stays_as_it_is_in_the_limit():
    for shape in ((1, 8, 8), (3, 20, 31), (2, 1, 1)):
        image = noise_image(*shape)
        assert corrupted(image, "elastic_transform", (0, 0, 0)) == pytest.approx(image)
        assert corrupted(image, "elastic_transform", (0, 0.1, 0)) == pytest.approx(image)


def ramps(side: int) -> numpy.ndarray:
    """An image of two channels, which hold the row and the column of each pixel."""
    return numpy.indices((side, side)).astype(float)


def test_an_elastic_image_is_distorted_as_three_points_are_moved():
    found = corrupted(ramps(31), "elastic_transform", (0, 0, 0.1))
    shifts = numpy.random.default_rng(0).uniform(-3.1, 3.1, size=(3, 2))
    # The points are a third of the side from the middle: the lower right, upper right, upper left.
    middle = found[:, 10:21, 10:21]  # where nothing comes from beyond the edges
    gradients = numpy.stack([numpy.diff(middle, axis=1)[:, 0, 0], numpy.diff(middle)[:, 0, 0]], 1)
    for corner, shift in zip([(25, 25), (5, 25), (5, 5)], shifts):
        from_middle = numpy.array(corner) + shift - 15
        assert middle[:, 5, 5] + gradients @ from_middle == pytest.approx(numpy.array(corner))


def test_pixels_of_an_elastic_image_are_moved_smoothly():
    rough, smooth = (
        (corrupted(ramps(40), "elastic_transform", (0.05, width, 0)) - ramps(40))[:, 4:-4, 4:-4]
        for width in (0, 0.1)
    )
    assert 1.5 < abs(rough).max() <= 0.05 * 40
    assert 0 < abs(smooth).max() < 0.5
    assert abs(numpy.diff(smooth)).max() < 0.1 * abs(numpy.diff(rough)).max()
