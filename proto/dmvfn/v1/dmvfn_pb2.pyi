from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_RAW: _ClassVar[Encoding]
    ENCODING_PNG: _ClassVar[Encoding]
    ENCODING_JPEG: _ClassVar[Encoding]
    ENCODING_WEBP: _ClassVar[Encoding]
    ENCODING_PPM: _ClassVar[Encoding]

class Quality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_UNSPECIFIED: _ClassVar[Quality]
    QUALITY_EXACT: _ClassVar[Quality]
    QUALITY_ADAPTIVE: _ClassVar[Quality]
    QUALITY_FAST: _ClassVar[Quality]

class Policy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_UNSPECIFIED: _ClassVar[Policy]
    POLICY_LATEST: _ClassVar[Policy]
    POLICY_ALL: _ClassVar[Policy]
ENCODING_UNSPECIFIED: Encoding
ENCODING_RAW: Encoding
ENCODING_PNG: Encoding
ENCODING_JPEG: Encoding
ENCODING_WEBP: Encoding
ENCODING_PPM: Encoding
QUALITY_UNSPECIFIED: Quality
QUALITY_EXACT: Quality
QUALITY_ADAPTIVE: Quality
QUALITY_FAST: Quality
POLICY_UNSPECIFIED: Policy
POLICY_LATEST: Policy
POLICY_ALL: Policy

class Frame(_message.Message):
    __slots__ = ("frame_id", "presentation_time_us", "encoded", "raw", "number", "sent_us", "receipt")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_TIME_US_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SENT_US_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    presentation_time_us: int
    encoded: bytes
    raw: RawPicture
    number: int
    sent_us: int
    receipt: Receipt
    def __init__(self, frame_id: _Optional[str] = ..., presentation_time_us: _Optional[int] = ..., encoded: _Optional[bytes] = ..., raw: _Optional[_Union[RawPicture, _Mapping]] = ..., number: _Optional[int] = ..., sent_us: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class RawPicture(_message.Message):
    __slots__ = ("pixels", "height", "width", "stride")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    pixels: bytes
    height: int
    width: int
    stride: int
    def __init__(self, pixels: _Optional[bytes] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., stride: _Optional[int] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("route", "seed", "blocks", "steps", "scale", "quality", "encoding", "image_quality", "maps", "method", "t", "version")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_QUALITY_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    T_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    route: str
    seed: int
    blocks: int
    steps: int
    scale: float
    quality: Quality
    encoding: Encoding
    image_quality: int
    maps: bool
    method: str
    t: _containers.RepeatedScalarFieldContainer[float]
    version: str
    def __init__(self, route: _Optional[str] = ..., seed: _Optional[int] = ..., blocks: _Optional[int] = ..., steps: _Optional[int] = ..., scale: _Optional[float] = ..., quality: _Optional[_Union[Quality, str]] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., image_quality: _Optional[int] = ..., maps: _Optional[bool] = ..., method: _Optional[str] = ..., t: _Optional[_Iterable[float]] = ..., version: _Optional[str] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("request_id", "previous", "current", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    previous: Frame
    current: Frame
    options: Options
    def __init__(self, request_id: _Optional[str] = ..., previous: _Optional[_Union[Frame, _Mapping]] = ..., current: _Optional[_Union[Frame, _Mapping]] = ..., options: _Optional[_Union[Options, _Mapping]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("request_id", "frame_id", "prediction")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    frame_id: str
    prediction: Prediction
    def __init__(self, request_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("frames", "model_version", "seed", "shortened", "batch_size", "timings", "method", "shares", "cut")
    class SharesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SHORTENED_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[PredictedFrame]
    model_version: str
    seed: int
    shortened: bool
    batch_size: int
    timings: Timings
    method: str
    shares: _containers.ScalarMap[str, float]
    cut: bool
    def __init__(self, frames: _Optional[_Iterable[_Union[PredictedFrame, _Mapping]]] = ..., model_version: _Optional[str] = ..., seed: _Optional[int] = ..., shortened: _Optional[bool] = ..., batch_size: _Optional[int] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., method: _Optional[str] = ..., shares: _Optional[_Mapping[str, float]] = ..., cut: _Optional[bool] = ...) -> None: ...

class PredictedFrame(_message.Message):
    __slots__ = ("encoded", "raw", "encoding", "route", "flops", "presentation_time_us", "maps", "t")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_TIME_US_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    T_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    raw: RawPicture
    encoding: Encoding
    route: str
    flops: int
    presentation_time_us: int
    maps: Maps
    t: float
    def __init__(self, encoded: _Optional[bytes] = ..., raw: _Optional[_Union[RawPicture, _Mapping]] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., route: _Optional[str] = ..., flops: _Optional[int] = ..., presentation_time_us: _Optional[int] = ..., maps: _Optional[_Union[Maps, _Mapping]] = ..., t: _Optional[float] = ...) -> None: ...

class Maps(_message.Message):
    __slots__ = ("height", "width", "flow", "mask", "confidence")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    FLOW_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    flow: bytes
    mask: bytes
    confidence: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., flow: _Optional[bytes] = ..., mask: _Optional[bytes] = ..., confidence: _Optional[bytes] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue", "route", "blocks", "decode", "encode", "motion", "mixing")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    MIXING_FIELD_NUMBER: _ClassVar[int]
    queue: float
    route: float
    blocks: float
    decode: float
    encode: float
    motion: float
    mixing: float
    def __init__(self, queue: _Optional[float] = ..., route: _Optional[float] = ..., blocks: _Optional[float] = ..., decode: _Optional[float] = ..., encode: _Optional[float] = ..., motion: _Optional[float] = ..., mixing: _Optional[float] = ...) -> None: ...

class StreamStart(_message.Message):
    __slots__ = ("horizon", "options", "window", "policy", "scene_cuts", "frame_deadline_ms", "score", "conceal", "show_at", "display_fps", "display_phase_us", "choose")
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SCENE_CUTS_FIELD_NUMBER: _ClassVar[int]
    FRAME_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONCEAL_FIELD_NUMBER: _ClassVar[int]
    SHOW_AT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FPS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_PHASE_US_FIELD_NUMBER: _ClassVar[int]
    CHOOSE_FIELD_NUMBER: _ClassVar[int]
    horizon: int
    options: Options
    window: int
    policy: Policy
    scene_cuts: bool
    frame_deadline_ms: int
    score: bool
    conceal: Concealment
    show_at: str
    display_fps: float
    display_phase_us: int
    choose: bool
    def __init__(self, horizon: _Optional[int] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., window: _Optional[int] = ..., policy: _Optional[_Union[Policy, str]] = ..., scene_cuts: _Optional[bool] = ..., frame_deadline_ms: _Optional[int] = ..., score: _Optional[bool] = ..., conceal: _Optional[_Union[Concealment, _Mapping]] = ..., show_at: _Optional[str] = ..., display_fps: _Optional[float] = ..., display_phase_us: _Optional[int] = ..., choose: _Optional[bool] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("sequence", "received_us")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    received_us: int
    def __init__(self, sequence: _Optional[int] = ..., received_us: _Optional[int] = ...) -> None: ...

class Show(_message.Message):
    __slots__ = ("aimed_us", "received_us", "replied_us", "miss_us")
    AIMED_US_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    REPLIED_US_FIELD_NUMBER: _ClassVar[int]
    MISS_US_FIELD_NUMBER: _ClassVar[int]
    aimed_us: _containers.RepeatedScalarFieldContainer[int]
    received_us: int
    replied_us: int
    miss_us: int
    def __init__(self, aimed_us: _Optional[_Iterable[int]] = ..., received_us: _Optional[int] = ..., replied_us: _Optional[int] = ..., miss_us: _Optional[int] = ...) -> None: ...

class Concealment(_message.Message):
    __slots__ = ("fps", "most", "blend", "delay_ms")
    FPS_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    BLEND_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    fps: float
    most: int
    blend: int
    delay_ms: int
    def __init__(self, fps: _Optional[float] = ..., most: _Optional[int] = ..., blend: _Optional[int] = ..., delay_ms: _Optional[int] = ...) -> None: ...

class Shown(_message.Message):
    __slots__ = ("number", "source", "frame")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[Shown.Source]
        SOURCE_REAL: _ClassVar[Shown.Source]
        SOURCE_BLENDED: _ClassVar[Shown.Source]
        SOURCE_PREDICTED: _ClassVar[Shown.Source]
        SOURCE_REPEATED: _ClassVar[Shown.Source]
    SOURCE_UNSPECIFIED: Shown.Source
    SOURCE_REAL: Shown.Source
    SOURCE_BLENDED: Shown.Source
    SOURCE_PREDICTED: Shown.Source
    SOURCE_REPEATED: Shown.Source
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    number: int
    source: Shown.Source
    frame: PredictedFrame
    def __init__(self, number: _Optional[int] = ..., source: _Optional[_Union[Shown.Source, str]] = ..., frame: _Optional[_Union[PredictedFrame, _Mapping]] = ...) -> None: ...

class Freezes(_message.Message):
    __slots__ = ("count", "total_s", "watched_s")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    WATCHED_S_FIELD_NUMBER: _ClassVar[int]
    count: int
    total_s: float
    watched_s: float
    def __init__(self, count: _Optional[int] = ..., total_s: _Optional[float] = ..., watched_s: _Optional[float] = ...) -> None: ...

class ConcealmentReport(_message.Message):
    __slots__ = ("ticks", "freezes", "freezes_repeating")
    class TicksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TICKS_FIELD_NUMBER: _ClassVar[int]
    FREEZES_FIELD_NUMBER: _ClassVar[int]
    FREEZES_REPEATING_FIELD_NUMBER: _ClassVar[int]
    ticks: _containers.ScalarMap[str, int]
    freezes: Freezes
    freezes_repeating: Freezes
    def __init__(self, ticks: _Optional[_Mapping[str, int]] = ..., freezes: _Optional[_Union[Freezes, _Mapping]] = ..., freezes_repeating: _Optional[_Union[Freezes, _Mapping]] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamPredictRequest(_message.Message):
    __slots__ = ("start", "frame", "reset")
    START_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    start: StreamStart
    frame: Frame
    reset: Reset
    def __init__(self, start: _Optional[_Union[StreamStart, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ...) -> None: ...

class StreamPredictResponse(_message.Message):
    __slots__ = ("frame_id", "presentation_time_us", "sequence", "prediction", "first", "dropped", "error", "draining", "summary", "shown", "score", "show", "predictor")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_TIME_US_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SHOW_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    presentation_time_us: int
    sequence: int
    prediction: Prediction
    first: First
    dropped: Dropped
    error: Error
    draining: Draining
    summary: Summary
    shown: Shown
    score: Score
    show: Show
    predictor: str
    def __init__(self, frame_id: _Optional[str] = ..., presentation_time_us: _Optional[int] = ..., sequence: _Optional[int] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ..., first: _Optional[_Union[First, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., shown: _Optional[_Union[Shown, _Mapping]] = ..., score: _Optional[_Union[Score, _Mapping]] = ..., show: _Optional[_Union[Show, _Mapping]] = ..., predictor: _Optional[str] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("frames", "psnr_db", "gain_db", "mean_psnr_db", "mean_gain_db")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    GAIN_DB_FIELD_NUMBER: _ClassVar[int]
    MEAN_PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    MEAN_GAIN_DB_FIELD_NUMBER: _ClassVar[int]
    frames: int
    psnr_db: float
    gain_db: float
    mean_psnr_db: float
    mean_gain_db: float
    def __init__(self, frames: _Optional[int] = ..., psnr_db: _Optional[float] = ..., gain_db: _Optional[float] = ..., mean_psnr_db: _Optional[float] = ..., mean_gain_db: _Optional[float] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("frames", "score", "concealed")
    class FramesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONCEALED_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.ScalarMap[str, int]
    score: Score
    concealed: ConcealmentReport
    def __init__(self, frames: _Optional[_Mapping[str, int]] = ..., score: _Optional[_Union[Score, _Mapping]] = ..., concealed: _Optional[_Union[ConcealmentReport, _Mapping]] = ...) -> None: ...

class First(_message.Message):
    __slots__ = ("reason",)
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[First.Reason]
        REASON_START: _ClassVar[First.Reason]
        REASON_SIZE: _ClassVar[First.Reason]
        REASON_SCENE_CUT: _ClassVar[First.Reason]
        REASON_RESET: _ClassVar[First.Reason]
        REASON_GAP: _ClassVar[First.Reason]
    REASON_UNSPECIFIED: First.Reason
    REASON_START: First.Reason
    REASON_SIZE: First.Reason
    REASON_SCENE_CUT: First.Reason
    REASON_RESET: First.Reason
    REASON_GAP: First.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: First.Reason
    def __init__(self, reason: _Optional[_Union[First.Reason, str]] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "reason", "status", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    reason: str
    status: int
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., reason: _Optional[str] = ..., status: _Optional[int] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
